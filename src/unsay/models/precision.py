"""Which precision this machine is fast in."""

import time
from functools import cache
from typing import Literal

import torch
from torch.nn.functional import linear

from unsay.models.settings import ModelSettings

Fast = Literal["float32", "bfloat16"]
"""What `fastest` can come to."""

WORTH = 1.5
"""bfloat16 must multiply so many times as fast as float32: below, its rounding is not worth the time it saves."""

SHAPE = (256, 576, 1536)
"""Rows, inputs and outputs of the product that is timed: a short batch in a small model's feed-forward layer."""

ROUNDS = 5


def settled(settings: ModelSettings, device: str) -> ModelSettings:
    """The settings with `fastest` replaced by the precision that it comes to on this device; others as they are."""
    if settings.dtype != "fastest":
        return settings
    return settings.model_copy(update={"dtype": _fastest(torch.device(device).type)})


@cache
def _fastest(kind: str) -> Fast:
    """Timed, not looked up: some processors have instructions for bfloat16 and are slower with them than without.

    Decided once in a process, and far from the border on the machines that were seen: 0.6 times as fast on an Intel
    Xeon with AVX512-BF16, 2 to 3 times on an AMD EPYC with the same.
    """
    if kind == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    if kind != "cpu":
        return "float32"
    best = {torch.float32: float("inf"), torch.bfloat16: float("inf")}
    rows, inputs, outputs = SHAPE
    for _ in range(ROUNDS):  # in turn, so that a busy moment hits both
        for dtype in best:
            x, weight = torch.ones(rows, inputs, dtype=dtype), torch.ones(outputs, inputs, dtype=dtype)
            began = time.perf_counter()
            linear(x, weight)
            best[dtype] = min(best[dtype], time.perf_counter() - began)
    return "bfloat16" if best[torch.float32] >= WORTH * best[torch.bfloat16] else "float32"
