"""Whether memory ran out: what of it is said, and by whom."""

import torch

SAID = ("out of memory", "can't allocate memory")
"""What an accelerator's driver and torch's CPU allocator say; neither raises an error of its own kind."""


def out_of_memory(error: BaseException | str | None) -> bool:
    """Whether memory ran out, an accelerator's or the machine's; of a library that only tells, by what it tells."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(words in str(error) for words in SAID)
