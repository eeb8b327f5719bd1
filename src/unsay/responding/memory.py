"""Memory that runs out while a model answers."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from unsay.errors import UserError
from unsay.responding.settings import GenerationSettings

SAID = ("out of memory", "can't allocate memory")
"""What an accelerator's driver and torch's CPU allocator say; neither raises an error of its own kind."""


def out_of_memory(error: BaseException | str | None) -> bool:
    """Whether memory ran out, an accelerator's or the machine's; of a library that only tells, by what it tells."""
    return isinstance(error, torch.OutOfMemoryError | MemoryError) or any(words in str(error) for words in SAID)


@contextmanager
def explained(settings: GenerationSettings) -> Iterator[None]:
    """Turn such an error into a `UserError` that says what to do; others pass."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise UserError(
            "out of memory while answering; what was answered is kept: halve evaluation.generation.batch_tokens "
            f"(now {settings.batch_tokens}) and run the same command again"
        ) from error
