"""Whether memory ran out: what of it is said, and by whom; and what helps a model that does not fit."""

import torch

from unsay.models.precision import ModelSettings

SAID = ("out of memory", "can't allocate memory", "Cannot allocate memory", "enough GPU RAM")
"""What is said by an accelerator's driver, torch's CPU allocator, the machine where a file finds no room in memory, and
transformers where 4 bits would have to leave the GPU; none of them raises an error of its own kind."""


def out_of_memory(error: BaseException | str | None) -> bool:
    """Whether memory ran out, an accelerator's or the machine's; of a library that only tells, by what it tells."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(words in str(error) for words in SAID)


def advice(settings: ModelSettings, device: str) -> str:
    """What would let a model fit, what costs least first; only what is not done already.

    Args:
        settings: how it was to be loaded.
        device: where to; of no account with a device map.
    """
    ways = ["model_settings.dtype: bfloat16 (half as much)"] if settings.dtype == "float32" else []
    if device.startswith("cuda") and settings.quantisation is None:
        ways.append("model_settings.quantisation: 4-bit (a quarter of bfloat16, with the extra `qlora`)")
    if device != "cpu" and settings.device_map is None:
        ways.append("model_settings.device_map: auto (over all GPUs and the machine's own memory)")
    ways.append("a device with more memory, or one that nobody else uses")
    return "What helps, in this order: " + "; ".join(ways)
