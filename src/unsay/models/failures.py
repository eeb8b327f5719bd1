"""What loading and running a model fails with: the reason in one line, whether memory ran out, and what helps then."""

import torch
from huggingface_hub.errors import StrictDataclassError
from safetensors import SafetensorError

from unsay.models.precision import ModelSettings

FAILURES = (
    AssertionError,
    ImportError,
    KeyError,
    MemoryError,
    OSError,
    RuntimeError,
    SafetensorError,
    StrictDataclassError,
    ValueError,
)
"""Errors raised when a checkpoint, a package, a device or the memory is unsuitable."""

OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "Cannot allocate memory", "enough GPU RAM")
"""Messages of an accelerator's driver, torch's CPU allocator, the operating system where a file is mapped into memory,
and transformers where 4-bit weights would leave the GPU; none of them raises an error class of its own."""

OWN_CODE = (
    "it needs code of its own, which unsay never runs: take a checkpoint in transformers' own layout, often the one "
    "whose name ends in -hf"
)


def reason(error: BaseException) -> str:
    """The first line of an error's message; for a checkpoint that needs code of its own, what to take instead."""
    if isinstance(error, ValueError) and "trust_remote_code" in str(error):
        return OWN_CODE
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def out_of_memory(error: BaseException | str | None) -> bool:
    """Whether memory ran out, an accelerator's or the machine's, by the error's class or its message."""
    known = isinstance(error, torch.OutOfMemoryError | MemoryError)
    return known or any(words in str(error) for words in OUT_OF_MEMORY)


def memory_advice(settings: ModelSettings, device: str) -> str:
    """What would let a model fit, cheapest first, without what the settings do already."""
    ways = ["model_settings.dtype: bfloat16 (half as much)"] if settings.dtype == "float32" else []
    if device.startswith("cuda") and settings.quantisation is None:
        ways.append("model_settings.quantisation: 4-bit (a quarter of bfloat16, with the extra `qlora`)")
    if device != "cpu" and settings.device_map is None:
        ways.append("model_settings.device_map: auto (over all GPUs and the machine's own memory)")
    ways.append("a device with more memory, or one that nobody else uses")
    return "What helps, in this order: " + "; ".join(ways)
