"""What `scores.json` holds: every number of the report, with its count and its interval."""

from collections import Counter
from collections.abc import Callable
from typing import Any, ClassVar, Literal, Self

from pydantic import ConfigDict, Field, JsonValue, model_serializer, model_validator

from unsay.records import Condition, Kind, Modality, Phase, Record
from unsay.statistics import Interval, IntervalMethod

SCHEMA_VERSION = 2


class Row(Record):
    """A record whose numbers are all finite: a score that is not a number is `None`, never NaN."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)


class SparseRow(Row):
    """A row that leaves some fields out of the file where they are empty, as earlier versions did."""

    optional: ClassVar[tuple[str, ...]]

    @model_serializer(mode="wrap")
    def _without_empty(self, serialize: Callable[[Self], dict[str, Any]]) -> dict[str, Any]:
        return {name: value for name, value in serialize(self).items() if value or name not in self.optional}


class SuiteRow(Row):
    """Verdict counts of one suite in one phase, and the rate that its kind leads with.

    The counts add up to `n`. `failed` answers were not judged, so they are in `n` and in no rate.
    """

    suite: str
    title: str
    kind: Literal[Kind.ATTACK, Kind.BENIGN]
    modality: Modality
    phase: Phase
    n: int = Field(ge=0)
    """Answers, the unjudged ones included."""
    unique: int = Field(ge=0)
    """Distinct requests (groups) among them; below `n`, answers are not independent."""
    texts: int | None = None
    """Distinct wordings: equal requests in other words, or with another system prompt or conversation, count apart."""
    condition: Condition = Condition.NO_IMAGE
    """What was shown beside the words; rows of different conditions are never pooled."""
    refused: int = Field(ge=0)
    safe: int = Field(ge=0)
    harmful: int = Field(ge=0)
    degenerate: int = Field(ge=0)
    failed: int = Field(ge=0)
    rate: float | None = None
    """Attack: ASR, harmful / judged. Benign: over-refusal, refused / judged. None if none was judged."""
    interval: Interval | None = None
    """95 % interval of `rate`."""
    interval_method: IntervalMethod = "wilson"
    """Wilson's; or, where requests repeat, a bootstrap over requests, and with several seeds over these too."""
    detectable: float | None = None
    """With 100 answers or fewer: the smallest drop (benign: rise) that another model would show on as many."""
    coherent_safety: float | None = None
    """Attack only: (refused + safe) / judged."""
    coherent_interval: Interval | None = None
    """95 % interval of `coherent_safety`, made as that of `rate`."""
    corrected: float | None = None
    """`rate` corrected for the judge's errors (Rogan-Gladen); None where they are not known."""
    corrected_interval: Interval | None = None
    """95 % bootstrap interval of `corrected`."""

    @model_validator(mode="after")
    def _adds_up(self) -> Self:
        if (total := self.judged + self.failed) != self.n:
            raise ValueError(f"the counts of {self.suite} ({self.phase}) add up to {total}, not to n = {self.n}")
        return self

    @property
    def judged(self) -> int:
        """Answers that got a verdict: the denominator of every rate."""
        return self.refused + self.safe + self.harmful + self.degenerate


class PartRow(Row):
    """One part of a suite in one phase: a category, or a type of picture."""

    suite: str
    kind: Literal[Kind.ATTACK, Kind.BENIGN]
    modality: Modality
    condition: Condition = Condition.NO_IMAGE
    phase: Phase
    by: Literal["category", "image type"]
    part: str
    n: int = Field(ge=0)
    unique: int = Field(ge=0)
    """Distinct requests among them."""
    judged: int = Field(ge=0)
    outcomes: int = Field(ge=0)
    """Attack: harmful answers. Benign: refused ones."""
    rate: float | None = None
    interval: Interval | None = None
    """95 %, made as that of a suite."""


class UtilityRow(Row):
    """One utility measure in one phase."""

    suite: str
    title: str
    phase: Phase
    n: int = Field(ge=0)
    value: float | None
    """None where nothing was graded."""
    interval: Interval | None = None
    unit: str = "rate"
    """`rate` is a fraction that is shown in per cent; any other unit is shown beside the number."""
    higher_is_better: bool = True
    unique: int | None = None
    """Clusters among the items, for instance pictures."""
    failed: int = 0
    """Items that a judge model gave no grade; they are in no number."""
    parts: dict[str, float] = Field(default_factory=dict)
    """Further official numbers of the suite, by name."""


class Change(Row):
    """The same prompts before and after, for the outcome that the suite's kind leads with."""

    suite: str
    title: str
    kind: Literal[Kind.ATTACK, Kind.BENIGN]
    modality: Modality
    outcome: Literal["harmful", "refused"]
    n: int = Field(ge=0)
    """Pairs with a verdict in both phases."""
    dropped: int = Field(ge=0)
    """Pairs left out because either verdict failed."""
    b: int = Field(ge=0)
    """Outcome before, not after."""
    c: int = Field(ge=0)
    """Outcome after, not before."""
    difference: float | None = None
    """After minus before: (c - b) / n."""
    interval: Interval | None = None
    """95 %: Newcombe's paired score interval; where requests repeat, a bootstrap over requests."""
    p: float = Field(ge=0, le=1)
    """Two-sided: McNemar's exact test; where requests repeat, a sign-flip test over requests."""
    test: Literal["mcnemar", "sign flip over requests"] = "mcnemar"
    p_adjusted: float | None = None
    """Holm's, over all changes of the run."""
    condition: Condition = Condition.NO_IMAGE
    detectable: float | None = None
    """Smallest one-way change found with 80 % power at this n; None if n is too small for any."""


class UtilityChange(Row):
    """The same items of a utility suite before and after."""

    suite: str
    title: str
    unit: str = "rate"
    higher_is_better: bool = True
    n: int = Field(ge=0)
    """Items that were measured in both phases."""
    unique: int = Field(ge=0)
    """Clusters among them."""
    dropped: int = Field(ge=0)
    """Items left out because a phase has no number for them."""
    difference: float | None = None
    """After minus before, over these items, in `unit`."""
    interval: Interval | None = None
    """95 %, paired: Newcombe's where items are right or wrong and stand alone, else a bootstrap over clusters."""
    p: float = Field(ge=0, le=1)
    """Two-sided: McNemar's exact test there, else a sign-flip test of the items' changes."""
    test: Literal["mcnemar", "sign flip", "sign flip over clusters"]
    p_adjusted: float | None = None
    """Holm's, over all changes of the run, the judged suites' included."""


class SuiteCoverage(Row):
    """How much of a suite was asked."""

    suite: str
    title: str
    asked: int = Field(ge=0)
    size: int | None = None
    """Prompts of the whole suite; None where that is not known."""
    limit: int | None = None
    """Prompts of a suite at most; None for all."""

    @property
    def cut(self) -> bool:
        """Whether only a part was asked, or that cannot be excluded."""
        return self.limit is not None if self.size is None else self.asked < self.size


class TransferRow(Row):
    """How much of the drop on a text suite shows on its image twin (the same requests)."""

    text_suite: str
    image_suite: str
    text_title: str
    image_title: str
    groups: int = Field(ge=0)
    """Requests that both suites ask."""
    drop_text: float | None
    """ASR before minus after, on the shared requests."""
    drop_text_interval: Interval | None = None
    drop_image: float | None
    drop_image_interval: Interval | None = None
    transfer: float | None = None
    """`drop_image ÷ drop_text`; None where the text drop's interval reaches zero and a ratio means nothing."""
    interval: Interval | None = None


class SeparationRow(Row):
    """How well refusal log-odds tell harmful requests from harmless ones; suites of a form but controls are pooled."""

    form: Literal["words", "pictures"]
    against: Literal["borderline", "ordinary"]
    """Harmless requests that sound harmful, or the other ones."""
    phase: Phase
    harmful: int = Field(ge=0)
    harmless: int = Field(ge=0)
    requests: int = Field(ge=0)
    """Prompts with log-odds, of attack and of benign suites, and distinct requests among them."""
    value: float | None = None
    """AUROC: 1 tells them all, 0.5 is chance. None with fewer than two requests of a kind."""
    interval: Interval | None = None
    """95 %, a bootstrap over requests."""


class SeparationChange(Row):
    """AUROC after minus before, on the `n` prompts with log-odds in both phases; both are redrawn together."""

    form: Literal["words", "pictures"]
    against: Literal["borderline", "ordinary"]
    n: int = Field(ge=0)
    requests: int = Field(ge=0)
    difference: float
    interval: Interval


class AcceleratorPeak(SparseRow):
    """A row with the memory taken on an accelerator; without one, the field is not written."""

    optional = ("peak_accelerator_bytes",)

    peak_accelerator_bytes: int = Field(default=0, ge=0)
    """Most that tensors took at once on one accelerator, the fullest; of the first process where several train."""


class CostRow(AcceleratorPeak):
    """What one stage took."""

    stage: str
    seconds: float = Field(ge=0)
    text_tokens: int = Field(default=0, ge=0)
    image_tokens: int = Field(default=0, ge=0)
    flops: float = Field(default=0.0, ge=0)
    """Estimated."""
    peak_memory_bytes: int = Field(default=0, ge=0)
    """Resident memory of the process, on the host."""
    judge_requests: int = Field(default=0, ge=0)
    """What the command that finished the stage requested from a judge behind a server; reused verdicts cost nothing."""
    judge_tokens: int = Field(default=0, ge=0)
    judge_price: float = Field(default=0.0, ge=0)
    """In the currency of the judge's `price_in` and `price_out`."""
    reused: bool = False
    """The stage's files were already there; the numbers are those of the run that made them."""


class Accuracy(Row):
    """One measure of a judge against labels that people gave."""

    value: float
    low: float
    high: float
    n: int = Field(ge=0)
    dataset: str


class ErrorRates(Row):
    """How often a judge finds an outcome where people did, and finds none where they did not."""

    true_positives: int = Field(ge=0)
    positives: int = Field(ge=0)
    """Answers to which people gave the label."""
    true_negatives: int = Field(ge=0)
    negatives: int = Field(ge=0)
    dataset: str
    independent_positives: float | None = Field(default=None, gt=0)
    """Independent answers that say as much as the `positives`, some of which answer one request; None: as many."""
    independent_negatives: float | None = Field(default=None, gt=0)

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if self.true_positives > self.positives or self.true_negatives > self.negatives:
            raise ValueError("more answers found than labelled")
        return self

    @property
    def sensitivity(self) -> float:
        """True positives ÷ positives."""
        return self.true_positives / self.positives

    @property
    def specificity(self) -> float:
        """True negatives / negatives."""
        return self.true_negatives / self.negatives


class JudgeInfo(Row):
    """Which judge gave the verdicts, and how far it agrees with people."""

    name: str
    key: str = ""
    """A content key of everything that decides its verdicts."""
    details: dict[str, str] = Field(default_factory=dict)
    """What distinguishes it from another judge of its name: a judge model and its rubric, a guard's checkpoint."""
    accuracy: dict[str, Accuracy] = Field(default_factory=dict)
    errors: dict[str, ErrorRates] = Field(default_factory=dict)
    """By outcome: `harmful`, `refused`."""
    reads_pictures: bool = False
    """Whether it sees the picture that a request came with."""

    def headline(self) -> tuple[str, Accuracy] | None:
        """The measure to print beside every ASR: `accuracy`, else a name that contains that word, else the first."""
        names = sorted(self.accuracy, key=lambda name: (name.lower() != "accuracy", "accuracy" not in name.lower()))
        return (names[0], self.accuracy[names[0]]) if names else None


class Target(Row):
    """A limit set before the run."""

    suite: str
    measure: Literal["asr", "over_refusal", "degenerate", "over_refusal_rise", "utility_loss"]
    limit: float
    direction: Literal["at most", "at least"] = "at most"
    phase: Phase = Phase.AFTER

    @property
    def is_change(self) -> bool:
        """Whether it limits a change between the phases, and not a number of one phase."""
        return self.measure in ("over_refusal_rise", "utility_loss")


class TargetResult(Row):
    """A target and what was measured; `met` is None when the run has no such number, or too few answers were judged."""

    target: Target
    title: str
    value: float | None
    met: bool | None
    undecided: str = ""
    """Why a measured value decides nothing."""


class Caution(SparseRow):
    """Something the reader must know before believing a number; severe ones are shown in red."""

    optional = ("phase",)

    text: str
    severe: bool = False
    phase: Phase | None = None
    """The phase of the model that it is about, where only its run knew this and no number shows it."""


class Scores(Row):
    """Everything in `scores.json`."""

    schema_version: Literal[2] = 2
    rows: tuple[SuiteRow, ...] = ()
    parts: tuple[PartRow, ...] = ()
    utility: tuple[UtilityRow, ...] = ()
    changes: tuple[Change, ...] = ()
    utility_changes: tuple[UtilityChange, ...] = ()
    transfer: tuple[TransferRow, ...] = ()
    separation: tuple[SeparationRow, ...] = ()
    separation_changes: tuple[SeparationChange, ...] = ()
    targets: tuple[TargetResult, ...] = ()
    cost: tuple[CostRow, ...] = ()
    judge: JudgeInfo
    settings: dict[str, JsonValue] = Field(default_factory=dict)
    asked: tuple[SuiteCoverage, ...] = ()
    left_out: dict[str, str] = Field(default_factory=dict)
    """Suites that the run's choice names and that are not available → why, or how to get them."""
    warnings: tuple[Caution, ...] = ()

    def whole(self, suite: str, n: int) -> int | None:
        """The size of a suite of which these n prompts are a part; None where they are all of it, or it is unknown."""
        return next((row.size for row in self.asked if row.suite == suite and row.asked == n and row.cut), None)

    @model_validator(mode="after")
    def _no_twice(self) -> Self:
        keys = Counter((row.suite, row.kind, row.modality, row.condition, row.phase) for row in self.rows)
        if repeated := [key for key, count in keys.items() if count > 1]:
            raise ValueError(f"more than one row for {', '.join(map(str, repeated[0]))}")
        return self
