"""The precision of a checkpoint's weights, by their headers: what counts where its configuration is silent."""

import json
from pathlib import Path

from huggingface_hub import try_to_load_from_cache
from safetensors import safe_open
from transformers.utils import SAFE_WEIGHTS_INDEX_NAME, SAFE_WEIGHTS_NAME

KINDS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
"""What safetensors calls floating numbers → what torch does; those of 8 bits and less are no precision of a model."""


def precision_of_weights(source: str) -> str | None:
    """What `dtype: auto` comes to by the weights: their index's word, else their first floating tensor's.

    Nothing is downloaded.

    Args:
        source: a checkpoint folder or a model id.

    Returns:
        None where there are no safetensors here, or none with floating numbers.

    Raises:
        OSError, SafetensorError, ValueError, KeyError: the weights or their index cannot be read.
    """
    weights = _here(source, SAFE_WEIGHTS_NAME)
    if weights is None:
        index = _here(source, SAFE_WEIGHTS_INDEX_NAME)
        if index is None:
            return None
        told = json.loads(index.read_text(encoding="utf-8"))
        if "dtype" in told.get("metadata", {}):
            return str(told["metadata"]["dtype"]).removeprefix("torch.")
        weights = _here(source, min(told["weight_map"].values()))
    return None if weights is None else _first(weights)


def _first(weights: Path) -> str | None:
    with safe_open(weights, framework="pt") as file:
        kinds = (file.get_slice(name).get_dtype() for name in file.keys())  # noqa: SIM118
        return next((KINDS[kind] for kind in kinds if kind in KINDS), None)


def _here(source: str, name: str) -> Path | None:
    """A file of a checkpoint's folder, or of a model id's part of the cache; None if it is not there."""
    if Path(source).is_dir():
        path = Path(source) / name
        return path if path.is_file() else None
    found = try_to_load_from_cache(source, name)
    return Path(found) if isinstance(found, str) else None
