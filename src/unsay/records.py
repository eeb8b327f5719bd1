"""The rows that stages pass on, and the enums they use: examples, prompts, responses, verdicts."""

from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, model_validator


class Role(StrEnum):
    """What a training example teaches."""

    FORGET = "forget"
    """A harmful prompt with a harmful answer, which is to become unlikely."""
    REFUSE = "refuse"
    """A harmful prompt with a safe answer, which is to become likely."""
    RETAIN = "retain"
    """A normal prompt with a normal answer, on which the model is to stay as it is."""


class Modality(StrEnum):
    """How a request reaches the model."""

    TEXT = "text"
    TYPOGRAPHIC = "typographic"
    """The request is rendered as pixels."""
    IMAGE = "image"
    """The answer depends on a picture."""


class Kind(StrEnum):
    """What a suite measures."""

    ATTACK = "attack"
    BENIGN = "benign"
    UTILITY = "utility"


class Condition(StrEnum):
    """The picture that the model sees with a prompt. Numbers of different conditions are never pooled."""

    NO_IMAGE = "no image"
    BLANK = "blank image"
    """A white picture."""
    UNRELATED = "unrelated image"
    """A picture that has nothing to do with the request."""
    REAL = "real image"
    """The picture that belongs to the prompt, or is the request."""


class Phase(StrEnum):
    """Which model answered: the original, or the one with the adapter."""

    BEFORE = "before"
    AFTER = "after"


class Label(StrEnum):
    """The five labels of a verdict."""

    REFUSED = "refused"
    SAFE = "safe"
    """Answers, and does no harm."""
    HARMFUL = "harmful"
    """Complies with a harmful request."""
    DEGENERATE = "degenerate"
    """Empty, repetitive, off-language or unrelated."""
    FAILED = "failed"
    """The judge gave no verdict; never counted as another label."""


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
    subject: str | None = None
    """What the request is about; `train.batch_by: subject` goes by it."""
    image: str | None = None
    """Path of the picture that comes before the prompt, in multimodal training data."""
    request: str | None = None
    """The bare request if `prompt` wraps it in a format; splits and overlaps are decided by it."""
    complete: bool = True
    """False if a token limit cut the answer off: then its end token is not scored."""
    prefix: str | None = None
    """What the answer begins with, word for word up to `answer`: read by the model and not scored."""
    way: str | None = None
    """What drew a forget answer out of the model (`unsay.generation.ways`), where words alone did not."""

    @property
    def whole_answer(self) -> str:
        """The answer with what it begins with."""
        return (self.prefix or "") + self.answer


class Turn(Record):
    """One turn of the conversation before a prompt."""

    role: Literal["user", "assistant"]
    text: str


class Prompt(Record):
    """One row of a suite: what the model is given, and what a judge or a measure needs."""

    id: str
    suite: str
    kind: Kind
    modality: Modality
    prompt: str
    """The text given to the model, with the image if there is one."""
    request: str
    """The request in words, even if the model sees it as pixels; a judge reads this."""
    image: str | None = None
    """Path of the image file, or None."""
    context: str | None = None
    """A text that the request refers to, as in HarmBench's contextual behaviours."""
    group: str
    """Equal for the same request in all suites and modalities; pairs and clusters are formed by it."""
    category: str | None = None
    reference: str | None = None
    """The right answer, for utility suites."""
    system: str | None = None
    """The system prompt of this row; it replaces the run's."""
    turns: tuple[Turn, ...] = ()
    """The conversation before the prompt, oldest turn first."""
    condition: Condition = Condition.NO_IMAGE
    """By default `real image` if there is an image, otherwise `no image`."""
    image_type: str | None = None
    """The kind of picture, in suites that have several."""
    choices: tuple[str, ...] = ()
    """The possible answers, for multiple choice."""
    answers: tuple[str, ...] = ()
    """All right answers if there are several: the annotators', or the right choices."""

    @property
    def in_full(self) -> str:
        """The request below its context, if it has one: what a judge must read."""
        return f"{self.context}\n\n---\n\n{self.request}" if self.context else self.request

    @model_validator(mode="before")
    @classmethod
    def _default_condition(cls, given: Any) -> Any:
        if isinstance(given, dict) and "condition" not in given:
            return {**given, "condition": Condition.REAL if given.get("image") else Condition.NO_IMAGE}
        return given


class Response(Record):
    """A model's answer to one prompt."""

    id: str
    suite: str
    modality: Modality
    prompt: str
    image: str | None
    response: str
    finish_reason: str
    """`stop` if the model ended its answer, `length` if the token limit did."""
    tokens: int
    """Generated tokens, including the end token."""
    prompt_tokens: int = 0
    image_tokens: int = 0
    refusal_log_odds: float | None = None
    """How likely the model is to begin as a refusal, whatever it answered: log P − log(1 − P) at temperature 1.

    None for a server, which does not tell, and in rows of earlier versions.
    """
    model_key: str

    @classmethod
    def of(cls, prompt: Prompt, **answer: Any) -> "Response":
        """The answer to a prompt; `answer` has the fields that the prompt does not give."""
        asked = {name: getattr(prompt, name) for name in ("id", "suite", "modality", "prompt", "image")}
        return cls(**asked, **answer)


class Verdict(Record):
    """A judge's verdict on one response."""

    id: str
    judge: str
    label: Label
    score: float | None = None
    """Probability of harm, None if the judge gives none."""
    rationale: str


class SourceRow(Record):
    """One row of a data source, before it has a role."""

    text: str
    """The request or question."""
    source: str
    category: str | None = None
    subject: str | None = None
    """What it is about; see `unsay.data.subjects`."""
    answers: tuple[str, ...] = ()
    """Known good answers, best first."""
    harmful: tuple[str, ...] = ()
    """Known harmful answers, worst first."""
    complete: bool = True
    """False if a token limit cut off the first answer."""
    prompt: str | None = None
    """The words that the model is given, where they are not the request: a jailbreak, or words beside a picture."""
    image: str | None = None
    """Path of the picture that comes before the words."""


class LabelledResponse(Record):
    """A response labelled by people, to fit and calibrate judges."""

    prompt: str
    response: str
    label: Label
    source: str
    group: str | None = None
    """Equal for the same request, for data sets that do not publish the requests."""
