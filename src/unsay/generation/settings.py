"""How answers are generated, and what to do when memory runs out.

How answers are generated; part of every response's key.

Memory that runs out while a model answers.
"""

from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import BaseModel, ConfigDict, Field

from unsay.errors import UserError
from unsay.models.memory import out_of_memory


class GenerationSettings(BaseModel):
    """Generation settings; greedy unless a temperature is given."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_new_tokens: int = Field(48, ge=1, description="longest answer, in tokens")
    temperature: float = Field(0.0, ge=0, description="0 is greedy")
    system: str | None = Field(None, description="system prompt; null leaves the chat template's own default")
    batch_tokens: int = Field(6_000, ge=1, description="tokens of one batch, prompts and room for answers included")
    seed: int = Field(0, description="seed of the sampling; of no account for greedy answers")


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
