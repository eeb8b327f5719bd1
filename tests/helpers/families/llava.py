"""LLaVA-1.5, LLaVA-NeXT, LLaVA-OneVision and InternVL: a tower, a projector, placeholders in the prompt."""

from pathlib import Path

from transformers import (
    CLIPVisionConfig,
    InternVLConfig,
    InternVLForConditionalGeneration,
    InternVLProcessor,
    InternVLVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextProcessor,
    LlavaOnevisionConfig,
    LlavaOnevisionForConditionalGeneration,
    LlavaOnevisionProcessor,
    LlavaProcessor,
    MistralConfig,
    Qwen2Config,
    SiglipVisionConfig,
)
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil
from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil
from transformers.models.llava_onevision.image_processing_pil_llava_onevision import LlavaOnevisionImageProcessorPil

from helpers.families.base import SIDE, TEXT, TOWER, ids, save, tokenizer

VICUNA = (
    "{% for m in messages %}"
    "{% if m['role'] == 'user' %}USER: {% elif m['role'] == 'assistant' %}ASSISTANT: {% endif %}"
    "{% for p in m['content'] if p['type'] == 'image' %}<image>\n{% endfor %}"
    "{% for p in m['content'] if p['type'] == 'text' %}{{ p['text'] }}"
    "{% if m['role'] == 'assistant' %}</s>{% else %} {% endif %}{% endfor %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}ASSISTANT:{% endif %}"
)
"""Turns are marked with words; <s> is left to the tokenizer."""

MISTRAL = (
    "{{ '<s>' }}"
    "{% for m in messages %}"
    "{% if m['role'] == 'assistant' %}"
    "{% for p in m['content'] if p['type'] == 'text' %} {{ p['text'] }}</s>{% endfor %}"
    "{% else %}{{ '[INST] ' }}"
    "{% for p in m['content'] if p['type'] == 'image' %}<image>\n{% endfor %}"
    "{% for p in m['content'] if p['type'] == 'text' %}{{ p['text'] }} {% endfor %}"
    "{{ '[/INST]' }}{% endif %}"
    "{% endfor %}"
)
"""LLaVA-1.6 on Mistral: instructions in brackets, <s> written out."""

CHATML = (
    "{% for m in messages %}"
    "<|im_start|>{{ m['role'] }}\n"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}"
    "{% for p in m['content'] if p['type'] == 'image' %}<image>\n{% endfor %}"
    "{% for p in m['content'] if p['type'] == 'text' %}{{ p['text'] }}{% endfor %}"
    "{% endif %}<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)

CLIP = {**TOWER, "projection_dim": 16}
PIXELS = {"size": {"shortest_edge": SIDE}, "crop_size": {"height": SIDE, "width": SIDE}}


def llava(folder: Path) -> None:
    """LLaVA-1.5: CLIP without its class token, Vicuna's turns."""
    coded = tokenizer("<image>", bos="<s>", eos="</s>", pad="<pad>", adds_bos=True)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**CLIP),
        text_config=LlamaConfig(vocab_size=len(coded), **TEXT),
        image_token_index=ids(coded, "<image>")[0],
        image_seq_length=16,
    )
    processor = LlavaProcessor(
        CLIPImageProcessorPil(**PIXELS), coded, patch_size=8, vision_feature_select_strategy="default",
        num_additional_image_tokens=1, chat_template=VICUNA,
    )  # fmt: skip
    save(folder, LlavaForConditionalGeneration, config, processor, ends=ids(coded, "</s>"))


def llava_next(folder: Path) -> None:
    """LLaVA-1.6 on Mistral: the picture in several crops."""
    coded = tokenizer("<image>", bos="<s>", eos="</s>", pad="<pad>", adds_bos=True)
    pinpoints = [[SIDE, 2 * SIDE], [2 * SIDE, SIDE], [2 * SIDE, 2 * SIDE]]
    config = LlavaNextConfig(
        vision_config=CLIPVisionConfig(**CLIP),
        text_config=MistralConfig(vocab_size=len(coded), **TEXT),
        image_token_index=ids(coded, "<image>")[0],
        image_grid_pinpoints=pinpoints,
    )
    processor = LlavaNextProcessor(
        LlavaNextImageProcessorPil(image_grid_pinpoints=pinpoints, **PIXELS), coded, patch_size=8,
        vision_feature_select_strategy="default", num_additional_image_tokens=1, chat_template=MISTRAL,
    )  # fmt: skip
    save(folder, LlavaNextForConditionalGeneration, config, processor, ends=ids(coded, "</s>"))


def llava_onevision(folder: Path) -> None:
    """LLaVA-OneVision: Siglip and Qwen2."""
    from transformers import LlavaOnevisionVideoProcessor

    coded = tokenizer("<image>", "<video>")
    pinpoints = [[SIDE, SIDE], [SIDE, 2 * SIDE], [2 * SIDE, SIDE]]
    config = LlavaOnevisionConfig(
        vision_config=SiglipVisionConfig(**TOWER, vision_use_head=False),
        text_config=Qwen2Config(vocab_size=len(coded), **TEXT),
        image_token_index=ids(coded, "<image>")[0],
        video_token_index=ids(coded, "<video>")[0],
        image_grid_pinpoints=pinpoints,
    )
    processor = LlavaOnevisionProcessor(
        LlavaOnevisionImageProcessorPil(image_grid_pinpoints=pinpoints, size={"height": SIDE, "width": SIDE}),
        coded, LlavaOnevisionVideoProcessor(), num_image_tokens=16,
        vision_feature_select_strategy="full", chat_template=CHATML,
    )  # fmt: skip
    save(folder, LlavaOnevisionForConditionalGeneration, config, processor, ends=ids(coded, "<|im_end|>"))


def internvl(folder: Path) -> None:
    """InternVL: its own tower, four patches to a token, Qwen2."""
    from transformers import InternVLVideoProcessor

    named = {
        "start_image_token": "<img>",
        "end_image_token": "</img>",
        "context_image_token": "<IMG_CONTEXT>",
        "video_token": "<video>",
    }
    coded = tokenizer(named=named)
    config = InternVLConfig(
        vision_config=InternVLVisionConfig(**{**TOWER, "image_size": [SIDE, SIDE], "patch_size": [8, 8]}),
        text_config=Qwen2Config(vocab_size=len(coded), **TEXT),
        image_token_id=ids(coded, "<IMG_CONTEXT>")[0],
        image_seq_length=4,
        tie_word_embeddings=False,
    )
    images = GotOcr2ImageProcessorPil(size={"height": SIDE, "width": SIDE}, crop_to_patches=True, max_patches=2)
    template = CHATML.replace("<image>", "<IMG_CONTEXT>")
    processor = InternVLProcessor(
        images, coded, InternVLVideoProcessor(), image_seq_length=4, chat_template=template
    )  # fmt: skip
    save(folder, InternVLForConditionalGeneration, config, processor, ends=ids(coded, "<|im_end|>"))
