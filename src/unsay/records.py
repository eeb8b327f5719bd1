"""The rows that stages hand to each other, and the words they are written in."""

from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, model_validator


class Role(StrEnum):
    """What a training example is for."""

    FORGET = "forget"
    """A harmful prompt with a harmful answer: the answer is to become unlikely."""
    REFUSE = "refuse"
    """A harmful prompt with a safe answer: the answer is to become likely."""
    RETAIN = "retain"
    """A normal prompt with a normal answer: the model is to stay as it was."""


class Modality(StrEnum):
    """How a request reaches the model."""

    TEXT = "text"
    TYPOGRAPHIC = "typographic"
    """The request is pixels."""
    IMAGE = "image"
    """A picture matters to the answer."""


class Kind(StrEnum):
    """What a suite measures."""

    ATTACK = "attack"
    BENIGN = "benign"
    UTILITY = "utility"


class Condition(StrEnum):
    """What the model was given to see beside the words. Numbers of different conditions are never pooled."""

    NO_IMAGE = "no image"
    BLANK = "blank image"
    """A white picture."""
    UNRELATED = "unrelated image"
    """A picture that has nothing to do with the request."""
    REAL = "real image"
    """The picture that belongs to the prompt, or that is the request."""


class Phase(StrEnum):
    """Which model answered: the original, or the one with the adapter."""

    BEFORE = "before"
    AFTER = "after"


class Label(StrEnum):
    """Exactly one of these is a verdict's label."""

    REFUSED = "refused"
    SAFE = "safe"
    """Answers helpfully and harmlessly."""
    HARMFUL = "harmful"
    """Complies with a harmful request."""
    DEGENERATE = "degenerate"
    """Empty, repetitive, off-language or unrelated."""
    FAILED = "failed"
    """The judge gave no answer. Never folded into another label."""


class Record(BaseModel):
    """A frozen row that refuses unknown fields."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Example(Record):
    """One training example: a prompt and the answer whose tokens are scored."""

    id: str
    role: Role
    prompt: str
    answer: str
    source: str
    category: str | None = None
    image: str | None = None
    """Path of the picture that stands before the prompt, for multimodal training data."""
    request: str | None = None
    """The bare request when `prompt` wraps it in a format; splits and disjointness go by this."""
    complete: bool = True
    """False where the answer was cut off by a token limit: then its end token is not scored."""


class Turn(Record):
    """One turn of the conversation before a prompt."""

    role: Literal["user", "assistant"]
    text: str


class Prompt(Record):
    """One row of a suite: what is put to the model."""

    id: str
    suite: str
    kind: Kind
    modality: Modality
    prompt: str
    """The text given to the model, beside the image if there is one."""
    request: str
    """What is being asked, in words, wherever it stands; this is what a judge reads."""
    image: str | None = None
    """Path of the image file, or None."""
    context: str | None = None
    """What the request speaks of, where that is a text of its own, as in HarmBench's contextual behaviours."""
    group: str
    """Equal for the same request in different suites and modalities; pairs and clusters go by this."""
    category: str | None = None
    reference: str | None = None
    """The right answer, for utility suites."""
    system: str | None = None
    """The system prompt that belongs to this row; it takes the place of the run's own."""
    turns: tuple[Turn, ...] = ()
    """The conversation before the prompt, oldest turn first."""
    condition: Condition = Condition.NO_IMAGE
    """Filled in if left out: `real image` where there is an image, else `no image`."""
    image_type: str | None = None
    """What kind of picture it is, where a suite has several."""
    choices: tuple[str, ...] = ()
    """The possible answers, for multiple choice."""
    answers: tuple[str, ...] = ()
    """All right answers where there are several: the annotators', or the right choices."""

    @property
    def in_full(self) -> str:
        """The request, under its context where it has one: what a judge must read to know what was asked."""
        return f"{self.context}\n\n---\n\n{self.request}" if self.context else self.request

    @model_validator(mode="before")
    @classmethod
    def _named_condition(cls, given: Any) -> Any:
        if isinstance(given, dict) and "condition" not in given:
            return {**given, "condition": Condition.REAL if given.get("image") else Condition.NO_IMAGE}
        return given


class Response(Record):
    """What the model said to one prompt."""

    id: str
    suite: str
    modality: Modality
    prompt: str
    image: str | None
    response: str
    finish_reason: str
    """`stop` (the model ended its answer) or `length` (the token limit did)."""
    tokens: int
    """Tokens generated, the end token included."""
    prompt_tokens: int = 0
    image_tokens: int = 0
    model_key: str


class Verdict(Record):
    """What a judge says of one response."""

    id: str
    judge: str
    label: Label
    score: float | None = None
    """Probability of harm where the judge has one, else None."""
    rationale: str


class SourceRow(Record):
    """One row of a data source, before it has a role."""

    text: str
    """The request or question."""
    source: str
    category: str | None = None
    answers: tuple[str, ...] = ()
    """Known good answers, best first."""
    complete: bool = True
    """False where the first answer was cut off by a token limit."""


class LabelledResponse(Record):
    """A response that people have labelled, for fitting and measuring judges."""

    prompt: str
    response: str
    label: Label
    source: str
    group: str | None = None
    """What tells requests apart where their words are not at hand."""
