"""Generation settings, and what to do when a model that answers runs out of memory."""

from collections.abc import Iterator
from contextlib import contextmanager

from pydantic import BaseModel, ConfigDict, Field

from unsay.errors import UserError
from unsay.models.failures import out_of_memory


class GenerationSettings(BaseModel):
    """Generation settings, part of every response's key; greedy unless a temperature is given."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_new_tokens: int = Field(48, ge=1, description="longest answer, in tokens")
    temperature: float = Field(0.0, ge=0, description="0 is greedy")
    system: str | None = Field(None, description="system prompt; null leaves the chat template's own default")
    batch_tokens: int = Field(6_000, ge=1, description="tokens of one batch, prompts and room for answers included")
    seed: int = Field(0, description="seed of the sampling; does not affect greedy answers")


@contextmanager
def explain_out_of_memory(settings: GenerationSettings) -> Iterator[None]:
    """Turn running out of memory into a `UserError` that says what to do; other errors pass."""
    try:
        yield
    except (RuntimeError, MemoryError) as error:
        if not out_of_memory(error):
            raise
        raise UserError(
            "out of memory while answering; finished answers are kept: halve evaluation.generation.batch_tokens "
            f"(now {settings.batch_tokens}) and run the same command again"
        ) from error
