"""Qwen2-VL, Qwen2.5-VL, Qwen3-VL and GLM-4V: pictures of any size, three-dimensional positions."""

from pathlib import Path
from typing import Any

from transformers import (
    Glm4vConfig,
    Glm4vForConditionalGeneration,
    Glm4vProcessor,
    Qwen2_5_VLConfig,
    Qwen2_5_VLForConditionalGeneration,
    Qwen2_5_VLProcessor,
    Qwen2VLConfig,
    Qwen2VLForConditionalGeneration,
    Qwen2VLProcessor,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
)
from transformers.models.glm4v.image_processing_pil_glm4v import Glm4vImageProcessorPil
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

from helpers.families.base import TEXT, ids, save, tokenizer

TOKENS = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")

TEMPLATE = (
    "{% for m in messages %}"
    "{% if loop.first and m['role'] != 'system' %}SYSTEM{% endif %}"
    "<|im_start|>{{ m['role'] }}\n"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for p in m['content'] %}"
    "{% if p['type'] == 'image' %}<|vision_start|><|image_pad|><|vision_end|>"
    "{% elif p['type'] == 'text' %}{{ p['text'] }}{% endif %}{% endfor %}{% endif %}"
    "<|im_end|>\n"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
SYSTEM = "<|im_start|>system\nYou are a helpful assistant.<|im_end|>\n"
"""Qwen2-VL and Qwen2.5-VL write a system prompt of their own; Qwen3-VL does not."""

GLM_TEMPLATE = (
    "[gMASK]<sop>\n"
    "{% for m in messages %}"
    "<|{{ m['role'] }}|>\n"
    "{% if m['content'] is string %}{{ m['content'] }}{% else %}{% for p in m['content'] %}"
    "{% if p['type'] == 'image' %}<|begin_of_image|><|image|><|end_of_image|>"
    "{% elif p['type'] == 'text' %}{{ p['text'] }}{% endif %}{% endfor %}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>\n{% endif %}"
)
"""No token ends a turn: the next one's mark does."""

MROPE = {"rope_type": "default", "rope_theta": 10000.0, "mrope_section": [1, 1, 2]}
NO_IDS = {"bos_token_id": None, "eos_token_id": None}
PIXELS = {"patch_size": 8, "merge_size": 2, "temporal_patch_size": 2} | {
    "size": {"shortest_edge": 256, "longest_edge": 4096}
}
TOWER = {"depth": 2, "num_heads": 2, "patch_size": 8, "spatial_merge_size": 2, "initializer_range": 0.2}


def _save(folder: Path, config_class: Any, model: type, processor: Any, vision: dict[str, Any], system: str) -> None:
    from transformers import Qwen2VLVideoProcessor, Qwen3VLVideoProcessor

    videos = Qwen3VLVideoProcessor if processor is Qwen3VLProcessor else Qwen2VLVideoProcessor
    coded = tokenizer(*TOKENS, eos="<|im_end|>", pad="<|endoftext|>")
    start, end, image, video = ids(coded, *TOKENS)
    more = {"head_dim": 8} if config_class is Qwen3VLConfig else {}
    config = config_class(
        text_config={"vocab_size": len(coded), "rope_parameters": MROPE, **NO_IDS, **TEXT, **more},
        vision_config=vision,
        image_token_id=image,
        video_token_id=video,
        vision_start_token_id=start,
        vision_end_token_id=end,
    )
    template = TEMPLATE.replace("SYSTEM", system)
    made = processor(Qwen2VLImageProcessorPil(**PIXELS), coded, videos(), chat_template=template)
    save(folder, model, config, made, ends=ids(coded, "<|im_end|>", "<|endoftext|>"))


def qwen2_vl(folder: Path) -> None:
    """Qwen2-VL."""
    vision = {**TOWER, "embed_dim": 16, "hidden_size": 32, "mlp_ratio": 2}
    _save(folder, Qwen2VLConfig, Qwen2VLForConditionalGeneration, Qwen2VLProcessor, vision, SYSTEM)


def qwen2_5_vl(folder: Path) -> None:
    """Qwen2.5-VL: windowed attention in the tower."""
    more = {"hidden_size": 16, "intermediate_size": 32, "out_hidden_size": 32, "window_size": 32}
    vision = {**TOWER, **more, "fullatt_block_indexes": [1]}
    _save(folder, Qwen2_5_VLConfig, Qwen2_5_VLForConditionalGeneration, Qwen2_5_VLProcessor, vision, SYSTEM)


def qwen3_vl(folder: Path) -> None:
    """Qwen3-VL: features of several depths of the tower enter several layers of the language model."""
    more = {"hidden_size": 16, "intermediate_size": 32, "out_hidden_size": 32, "num_position_embeddings": 16}
    vision = {**TOWER, **more, "deepstack_visual_indexes": [0]}
    _save(folder, Qwen3VLConfig, Qwen3VLForConditionalGeneration, Qwen3VLProcessor, vision, "")


def glm4v(folder: Path) -> None:
    """GLM-4V: fused gate and up projections, turns without an end."""
    from transformers import Glm4vVideoProcessor

    pictures = ("<|begin_of_image|>", "<|end_of_image|>", "<|begin_of_video|>", "<|end_of_video|>",
                "<|image|>", "<|video|>")  # fmt: skip
    coded = tokenizer(
        "[gMASK]", "<sop>", "<|system|>", "<|user|>", "<|assistant|>", *pictures, eos="<|endoftext|>"
    )  # fmt: skip
    begin, end, video_begin, video_end, image, video = ids(coded, *pictures)
    more = {"hidden_size": 16, "intermediate_size": 32, "out_hidden_size": 32, "image_size": 32}
    config = Glm4vConfig(
        text_config={"vocab_size": len(coded), "rope_parameters": {**MROPE, "partial_rotary_factor": 1.0}, **TEXT},
        vision_config={**TOWER, **more},
        image_token_id=image,
        video_token_id=video,
        image_start_token_id=begin,
        image_end_token_id=end,
        video_start_token_id=video_begin,
        video_end_token_id=video_end,
    )
    processor = Glm4vProcessor(
        Glm4vImageProcessorPil(**PIXELS), coded, Glm4vVideoProcessor(), chat_template=GLM_TEMPLATE
    )
    save(folder, Glm4vForConditionalGeneration, config, processor, ends=ids(coded, "<|endoftext|>", "<|user|>"))
