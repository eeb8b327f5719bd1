"""The vision tower while it is trained or read: pixels, features, precision, and attention that is fast on a CPU."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from unsay.models.packing import KERNEL, masked_attention
from unsay.models.precision import ModelSettings, resolved


def fastest(device: torch.device) -> torch.dtype:
    """bfloat16 where its products are much faster than float32's, which is measured once on a CPU; else float32."""
    return (
        torch.bfloat16 if resolved(ModelSettings(dtype="fastest"), device.type).dtype == "bfloat16" else torch.float32
    )


def autocast(device: torch.device, precision: torch.dtype | None = None) -> torch.autocast:
    """Products of matrices in this precision, or in the `fastest` one."""
    return torch.autocast(device.type, torch.bfloat16, enabled=(precision or fastest(device)) is torch.bfloat16)


def pixel_values(images: NDArray[np.uint8], device: torch.device) -> Tensor:
    """B × H × W × 3 uint8 → B × 3 × H × W, `x / 127.5 - 1`, on `device`."""
    return torch.from_numpy(images).to(device).permute(0, 3, 1, 2).float() / 127.5 - 1.0


def features(tower: Any, pixels: Tensor) -> Tensor:
    """The tower's features as the VLM takes them: the encoder's output, before the final norm. B × P × D."""
    states: Tensor = tower.encoder(inputs_embeds=tower.embeddings(pixels)).last_hidden_state
    return states


def learnable(module: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that lie on the way to `features`, made trainable."""
    # `vision_feature_layer=-1` is the encoder's output, before this norm.
    found = {name: value for name, value in module.named_parameters() if "post_layernorm" not in name}
    module.requires_grad_(False)
    for value in found.values():
        value.requires_grad_(True)
    return found


@contextmanager
def attending() -> Iterator[None]:
    """Within this context, attention without a mask is plain products, whose gradients are fast in bfloat16."""
    ALL_ATTENTION_FUNCTIONS[KERNEL] = _attend
    try:
        yield
    finally:
        del ALL_ATTENTION_FUNCTIONS[KERNEL]


def _attend(
    _module: nn.Module, query: Tensor, key: Tensor, value: Tensor, _mask: None, scaling: float, **_more: Any
) -> tuple[Tensor, None]:
    """Queries, keys and values [b, h, n, d] → [b, n, h, d]."""
    nothing = torch.zeros(query.shape[2], key.shape[2], dtype=query.dtype, device=query.device)
    return masked_attention(query, key, value, nothing, scaling).transpose(1, 2), None


class Teacher:
    """The frozen tower and projector, and what they make of an empty page."""

    def __init__(self, tower: Any, projector: Any, device: torch.device) -> None:
        kind = fastest(device)
        self.parts = [copy.deepcopy(part).to(device, kind).eval().requires_grad_(False) for part in (tower, projector)]
        size = tower.config.image_size
        empty = self.sees(np.full((1, size, size, 3), 255, np.uint8), device)
        self.empty = empty

    @torch.no_grad()
    def sees(self, images: np.ndarray[Any, Any], device: torch.device) -> Tensor:
        """Embeddings of the patches, B × P × H, in float32."""
        tower, projector = self.parts
        pixels = pixel_values(images, device).to(next(tower.parameters()).dtype)
        with attending():
            seen: Tensor = projector(features(tower, pixels)).float()
        return seen
