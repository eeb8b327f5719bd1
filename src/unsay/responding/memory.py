"""Memory that runs out while a model answers."""

from collections.abc import Iterator
from contextlib import contextmanager

from unsay.errors import UserError
from unsay.models.memory import out_of_memory
from unsay.responding.settings import GenerationSettings


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
