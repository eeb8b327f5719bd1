"""Configurations of real checkpoints, written out from what is published: their shapes, for plans. No weights.

What is not named here, transformers has as its default. Widths of towers that a class has no default for are those of
the tower that the checkpoint is built on.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from transformers import (
    Gemma3Config,
    Glm4vConfig,
    Idefics3Config,
    InternVLConfig,
    LlavaConfig,
    LlavaNextConfig,
    LlavaOnevisionConfig,
    Mistral3Config,
    MllamaConfig,
    PaliGemmaConfig,
    Phi4MultimodalConfig,
    Qwen2_5_VLConfig,
    Qwen2VLConfig,
    Qwen3VLConfig,
    SmolVLMConfig,
)

CLIP = {
    "model_type": "clip_vision_model", "hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
    "num_attention_heads": 16, "image_size": 336, "patch_size": 14, "projection_dim": 768,
}  # fmt: skip
"""CLIP ViT-L/14 at 336 pixels."""
SIGLIP = {
    "model_type": "siglip_vision_model", "hidden_size": 1152, "intermediate_size": 4304, "num_hidden_layers": 27,
    "num_attention_heads": 16, "patch_size": 14, "vision_use_head": False,
}  # fmt: skip
"""SigLIP so400m."""
PIXTRAL = {"model_type": "pixtral"}


def _text(kind: str, width: int, inner: int, layers: int, heads: int, kv: int, words: int, **more: Any) -> Any:
    return {
        "model_type": kind, "hidden_size": width, "intermediate_size": inner, "num_hidden_layers": layers,
        "num_attention_heads": heads, "num_key_value_heads": kv, "vocab_size": words, **more,
    }  # fmt: skip


def _qwen2(kind: str, words: int) -> Any:
    return _text(kind, 3584, 18944, 28, 28, 4, words)


def _smol(config: Any) -> Any:
    tower = {key: value for key, value in SIGLIP.items() if key not in ("model_type", "vision_use_head")}
    text = _text("llama", 2048, 8192, 24, 32, 32, 49280)
    return config(vision_config={**tower, "image_size": 384}, text_config=text, scale_factor=3)


SHAPES: dict[str, Callable[[], Any]] = {
    "llava-1.5-7b": lambda: LlavaConfig(vision_config=CLIP, text_config=_text("llama", 4096, 11008, 32, 32, 32, 32064)),
    "llava-1.6-mistral-7b": lambda: LlavaNextConfig(
        vision_config=CLIP, text_config=_text("mistral", 4096, 14336, 32, 32, 8, 32064)
    ),
    "llava-onevision-7b": lambda: LlavaOnevisionConfig(
        vision_config={**SIGLIP, "num_hidden_layers": 26, "image_size": 384}, text_config=_qwen2("qwen2", 152000)
    ),
    "qwen2-vl-7b": lambda: Qwen2VLConfig(text_config=_qwen2("qwen2_vl_text", 152064)),
    "qwen2.5-vl-7b": lambda: Qwen2_5_VLConfig(
        vision_config={"hidden_size": 1280}, text_config=_qwen2("qwen2_5_vl_text", 152064)
    ),
    "qwen3-vl-8b": lambda: Qwen3VLConfig(
        vision_config={"out_hidden_size": 4096},
        text_config=_text("qwen3_vl_text", 4096, 12288, 36, 32, 8, 151936, head_dim=128),
    ),
    "internvl3-8b": lambda: InternVLConfig(text_config=_qwen2("qwen2", 151674), tie_word_embeddings=False),
    "smolvlm-2.2b": lambda: _smol(Idefics3Config),
    "smolvlm2-2.2b": lambda: _smol(SmolVLMConfig),
    "gemma-3-12b": lambda: Gemma3Config(
        vision_config={**SIGLIP, "image_size": 896},
        text_config=_text("gemma3_text", 3840, 15360, 48, 16, 8, 262208, head_dim=256),
    ),
    "paligemma-3b": lambda: PaliGemmaConfig(
        vision_config={**SIGLIP, "projection_dim": 2048},
        text_config=_text("gemma", 2048, 16384, 18, 8, 1, 257216, head_dim=256),
    ),
    "paligemma2-3b": lambda: PaliGemmaConfig(
        vision_config={**SIGLIP, "projection_dim": 2304},
        text_config=_text("gemma2", 2304, 9216, 26, 8, 4, 257216, head_dim=256),
        projection_dim=2304,
    ),
    "llama-3.2-vision-11b": MllamaConfig,
    "pixtral-12b": lambda: LlavaConfig(
        vision_config=PIXTRAL,
        text_config=_text("mistral", 5120, 14336, 40, 32, 8, 131072, head_dim=128),
        vision_feature_layer=-1,
        vision_feature_select_strategy="full",
    ),
    "mistral-small-3.1-24b": lambda: Mistral3Config(
        vision_config={**PIXTRAL, "image_size": 1540, "patch_size": 14},
        text_config=_text("mistral", 5120, 32768, 40, 32, 8, 131072, head_dim=128),
        tie_word_embeddings=False,
    ),
    "phi-4-multimodal": lambda: Phi4MultimodalConfig(num_attention_heads=24, tie_word_embeddings=True),
    "glm-4.1v-9b": lambda: Glm4vConfig(),
}
"""Preset → its checkpoint's configuration."""


def shape(name: str, folder: Path, dtype: str = "bfloat16") -> Path:
    """A folder with a preset's configuration and nothing else."""
    config = SHAPES[name]()
    config.dtype = dtype
    config.save_pretrained(folder)
    return folder
