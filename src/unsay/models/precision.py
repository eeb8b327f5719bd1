"""The precision of a model's weights: as set, as stored in the checkpoint, and fastest on this machine."""

import json
import time
from functools import cache
from pathlib import Path
from typing import Literal

import torch
from huggingface_hub import try_to_load_from_cache
from pydantic import BaseModel, ConfigDict, Field
from safetensors import safe_open
from torch.nn.functional import linear
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

KINDS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
"""Floating-point types by their names in safetensors → in torch; 8 bits and less are not a model's precision."""

Fast = Literal["float32", "bfloat16"]
"""What `fastest` can resolve to."""

WORTH = 1.5
"""bfloat16 must multiply so many times as fast as float32; below that, its rounding is not worth the time saved."""

SHAPE = (256, 576, 1536)
"""Rows, inputs and outputs of the product that is timed: a short batch in a small model's feed-forward layer."""

ROUNDS = 5


class ModelSettings(BaseModel):
    """How a checkpoint is loaded; the defaults suit the pocket VLM on a CPU."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    dtype: Literal["float32", "bfloat16", "float16", "auto", "fastest"] = Field(
        "float32",
        description="of the frozen weights; auto takes the checkpoint's own, fastest takes bfloat16 where this machine "
        "multiplies in it much faster than in float32. The adapter stays in float32",
    )
    quantisation: Literal["4-bit"] | None = Field(
        None,
        description="4-bit stores frozen linears in 4 bits (QLoRA); it needs a CUDA GPU and bitsandbytes",
    )
    device_map: str | None = Field(
        None, description="auto spreads a model that is too large over the GPUs at hand; null puts it on `device`"
    )
    attention: Literal["eager", "sdpa", "flash_attention_2"] | None = Field(
        None, description="attention kernel; null leaves the choice to transformers"
    )


def precision_of_weights(source: str) -> str | None:
    """What `dtype: auto` resolves to by the weights: their index's entry, else their first floating-point tensor's.

    Nothing is downloaded.

    Args:
        source: a checkpoint folder or a model id.

    Returns:
        None where there are no safetensors here, or none with floating-point numbers.

    Raises:
        OSError, SafetensorError, ValueError, KeyError: the weights or their index cannot be read.
    """
    weights = _local_file(source, SAFE_WEIGHTS_NAME)
    if weights is None:
        index = _local_file(source, SAFE_WEIGHTS_INDEX_NAME)
        if index is None:
            return None
        content = json.loads(index.read_text(encoding="utf-8"))
        if "dtype" in content.get("metadata", {}):
            return str(content["metadata"]["dtype"]).removeprefix("torch.")
        weights = _local_file(source, min(content["weight_map"].values()))
    if weights is None:
        return None
    with safe_open(weights, framework="pt") as file:
        kinds = (file.get_slice(name).get_dtype() for name in file.keys())  # noqa: SIM118
        return next((KINDS[kind] for kind in kinds if kind in KINDS), None)


def _local_file(source: str, name: str) -> Path | None:
    """A file of a checkpoint's folder, or of a model id's part of the cache; None if it is not there."""
    if Path(source).is_dir():
        path = Path(source) / name
        return path if path.is_file() else None
    cached = try_to_load_from_cache(source, name)
    return Path(cached) if isinstance(cached, str) else None


def resolved(settings: ModelSettings, device: str) -> ModelSettings:
    """The settings with `fastest` replaced by the precision that is fastest on this device; others unchanged."""
    if settings.dtype != "fastest":
        return settings
    return settings.model_copy(update={"dtype": _fastest(torch.device(device).type)})


@cache
def _fastest(kind: str) -> Fast:
    """Measured, not looked up: some processors have instructions for bfloat16 and are slower with them than without.

    Decided once in a process, and clear on the machines that were measured: 0.6 times as fast on an Intel Xeon with
    AVX512-BF16, 2 to 3 times on an AMD EPYC with the same.
    """
    if kind == "cuda":
        return "bfloat16" if torch.cuda.is_bf16_supported() else "float32"
    if kind != "cpu":
        return "float32"
    best = {torch.float32: float("inf"), torch.bfloat16: float("inf")}
    rows, inputs, outputs = SHAPE
    for _ in range(ROUNDS):  # in turn, so that a busy moment affects both
        for dtype in best:
            x, weight = torch.ones(rows, inputs, dtype=dtype), torch.ones(outputs, inputs, dtype=dtype)
            began = time.perf_counter()
            linear(x, weight)
            best[dtype] = min(best[dtype], time.perf_counter() - began)
    return "bfloat16" if best[torch.float32] >= WORTH * best[torch.bfloat16] else "float32"
