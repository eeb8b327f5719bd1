"""Idefics3 and SmolVLM: a tower whose patches are shuffled together, and turns that take parts only."""

from pathlib import Path
from typing import Any

from transformers import (
    Idefics3Config,
    Idefics3ForConditionalGeneration,
    Idefics3Processor,
    LlamaConfig,
    SmolVLMConfig,
    SmolVLMForConditionalGeneration,
    SmolVLMProcessor,
)
from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil
from transformers.models.smolvlm.image_processing_pil_smolvlm import SmolVLMImageProcessorPil

from helpers import tiny
from helpers.families.base import SIDE, TEXT, TOWER, ids, save, tokenizer

TOKENS = ("<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>", "<video>")


def _save(folder: Path, config_class: Any, model: type, images: Any, processor: Any, **more: Any) -> None:
    coded = tokenizer(*TOKENS, bos="<|im_start|>", eos="<end_of_utterance>", pad="<|im_end|>")
    config = config_class(
        text_config=LlamaConfig(vocab_size=len(coded), **TEXT).to_dict(),
        vision_config=TOWER,
        image_token_id=ids(coded, "<image>")[0],
        scale_factor=2,
    )
    made = images(
        do_image_splitting=False, size={"longest_edge": SIDE}, max_image_size={"longest_edge": SIDE}
    )  # fmt: skip
    ready = processor(made, coded, image_seq_len=4, chat_template=tiny.IDEFICS_TEMPLATE, **more)
    save(folder, model, config, ready, ends=ids(coded, "<end_of_utterance>"))


def idefics3(folder: Path) -> None:
    """Idefics3, as SmolVLM-Instruct (the first SmolVLM) is too."""
    _save(folder, Idefics3Config, Idefics3ForConditionalGeneration, Idefics3ImageProcessorPil, Idefics3Processor)


def smolvlm(folder: Path) -> None:
    """SmolVLM2."""
    from transformers import SmolVLMVideoProcessor

    images, processor = SmolVLMImageProcessorPil, SmolVLMProcessor
    _save(
        folder,
        SmolVLMConfig,
        SmolVLMForConditionalGeneration,
        images,
        processor,
        video_processor=SmolVLMVideoProcessor(),
    )
