"""Estimated floating-point operations: two per parameter and token, the usual count."""

from typing import Any

from unsay.models.vlm import VLM


def _size(module: Any) -> int:
    return sum(parameter.numel() for parameter in module.parameters())


def forward_flops(vlm: VLM, tokens: int, *, head_tokens: int = 0, images: int = 0) -> float:
    """Operations of forward passes.

    Args:
        vlm: the model.
        tokens: positions that pass the language model, image positions included.
        head_tokens: positions that pass the output head.
        images: pictures that pass the vision tower, at the tower's full number of patches each.
    """
    embeddings = vlm.decoder.get_input_embeddings()  # type: ignore[operator]
    body = _size(vlm.decoder) - _size(embeddings)
    total = 2.0 * body * tokens + 2.0 * _size(vlm.lm_head) * head_tokens
    tower = getattr(getattr(vlm.base, "model", vlm.base), "vision_tower", None)
    if tower is not None and images:
        config = getattr(vlm.base.config, "vision_config", None)
        patches = (config.image_size // config.patch_size) ** 2 if config is not None else 0
        total += 2.0 * _size(tower) * patches * images
    return total
