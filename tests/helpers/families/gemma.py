"""Gemma 3, PaliGemma and PaliGemma 2: Siglip in front of Gemma."""

from pathlib import Path
from typing import Any

from transformers import (
    Gemma2Config,
    Gemma3Config,
    Gemma3ForConditionalGeneration,
    Gemma3Processor,
    GemmaConfig,
    PaliGemmaConfig,
    PaliGemmaForConditionalGeneration,
    PaliGemmaProcessor,
    SiglipVisionConfig,
)
from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil
from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

from helpers.families.base import SIDE, TEXT, TOWER, ids, save, tokenizer

TEMPLATE = (
    "<bos>"
    "{% for m in messages %}"
    "<start_of_turn>{{ 'model' if m['role'] == 'assistant' else m['role'] }}\n"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for p in m['content'] %}"
    "{% if p['type'] == 'image' %}<start_of_image>{% elif p['type'] == 'text' %}{{ p['text'] | trim }}{% endif %}"
    "{% endfor %}{% endif %}<end_of_turn>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<start_of_turn>model\n{% endif %}"
)

PIXELS = {"size": {"height": SIDE, "width": SIDE}}


def gemma3(folder: Path) -> None:
    """Gemma 3: sliding and full attention by turns, pictures pooled to a fixed number of tokens."""
    named = {"image_token": "<image_soft_token>", "boi_token": "<start_of_image>", "eoi_token": "<end_of_image>"}
    coded = tokenizer(
        "<start_of_turn>", "<end_of_turn>", bos="<bos>", eos="<eos>", pad="<pad>", named=named, adds_bos=True
    )
    image, begin, end = ids(coded, *named.values())
    config = Gemma3Config(
        text_config={
            **TEXT, "vocab_size": len(coded), "head_dim": 8, "query_pre_attn_scalar": 8, "sliding_window": 64,
            "layer_types": ["sliding_attention", "full_attention"],
        },
        vision_config=SiglipVisionConfig(**TOWER, vision_use_head=False),
        mm_tokens_per_image=4,
        image_token_index=image,
        boi_token_index=begin,
        eoi_token_index=end,
    )  # fmt: skip
    images = Gemma3ImageProcessorPil(image_seq_length=4, **PIXELS)
    processor = Gemma3Processor(images, coded, chat_template=TEMPLATE, image_seq_length=4)
    save(folder, Gemma3ForConditionalGeneration, config, processor, ends=ids(coded, "<eos>", "<end_of_turn>"), seed=4)


def _paligemma(folder: Path, text: Any, **more: Any) -> None:
    coded = tokenizer("<image>", bos="<bos>", eos="<eos>", pad="<pad>", adds_bos=True)
    images = SiglipImageProcessorPil(image_seq_length=16, **PIXELS)
    processor = PaliGemmaProcessor(images, coded)  # published without a chat template
    config = PaliGemmaConfig(
        vision_config=SiglipVisionConfig(**TOWER, vision_use_head=False),
        text_config=text(vocab_size=len(coded), head_dim=8, **TEXT, **more),
        image_token_index=ids(coded, "<image>")[0],
        projection_dim=32,
        hidden_size=32,
    )
    save(folder, PaliGemmaForConditionalGeneration, config, processor, ends=ids(coded, "<eos>"))


def paligemma(folder: Path) -> None:
    """PaliGemma: a prefix that is read in both directions, and no chat template."""
    _paligemma(folder, GemmaConfig)


def paligemma2(folder: Path) -> None:
    """PaliGemma 2: the same class around Gemma 2, which caps its logits."""
    _paligemma(folder, Gemma2Config, query_pre_attn_scalar=8, sliding_window=64)
