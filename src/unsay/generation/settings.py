"""Settings of answering, and what to do when a model that answers runs out of memory."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator

from unsay.errors import UserError
from unsay.models.failures import out_of_memory

SAMPLING = 2
"""Version of sampled answers: raised by hand when the same settings draw others."""


class GenerationSettings(BaseModel):
    """Generation settings, part of every response's key; greedy unless a temperature is given."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    max_new_tokens: int = Field(48, ge=1, description="longest answer, in tokens")
    temperature: float = Field(0.0, ge=0, description="0 is greedy")
    system: str | None = Field(None, description="system prompt; null leaves the chat template's own default")
    batch_tokens: int = Field(6_000, ge=1, description="tokens of one batch, prompts and room for answers included")
    seed: int = Field(0, description="seed of the sampling; does not affect greedy answers")

    @property
    def sampling(self) -> tuple[int, ...]:
        """The version of sampled answers, where this samples; for keys."""
        return (SAMPLING,) if self.temperature > 0 else ()

    def decisive(self) -> dict[str, object]:
        """What of this decides an answer: batches do not change a greedy one, and every sampled one depends on them."""
        return self.model_dump(exclude=None if self.sampling else {"batch_tokens"})


WayName = Literal["words", "prefill", "typographic", "figstep", "templates", "samples"]
"""See `unsay.generation.ways`."""


class OwnAnswerSettings(BaseModel):
    """How a model's own harmful answers are drawn out of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    ways: tuple[WayName, ...] | None = Field(
        None,
        min_length=1,
        description="ways to ask, in this order, each for what the ones before it did not get: words, prefill (the "
        "first words of the answer are given), typographic and figstep (as pictures), templates (inside published "
        "jailbreaks), samples (at temperature 1); null: words for the pocket, all for any other model",
    )
    wanted: int | None = Field(
        200, ge=1, description="answers at which no further way is tried; in the first, every request is asked"
    )
    samples: int = Field(4, ge=1, le=100, description="times that the way `samples` asks")

    @field_validator("ways")
    @classmethod
    def _distinct(cls, ways: tuple[WayName, ...] | None) -> tuple[WayName, ...] | None:
        if ways is not None and len(set(ways)) < len(ways):
            raise ValueError("each way once")
        return ways


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
