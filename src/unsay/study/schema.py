"""What `study.json` holds: every number of the study's page, with its count and its interval."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, JsonValue, ValidationError, model_validator

from unsay.errors import UserError
from unsay.files import first_problem, read_json, write_json
from unsay.scoring import Interval, JudgeInfo, SuiteRow, UtilityRow
from unsay.scoring.schema import Row
from unsay.study.settings import Rule

COHERENT = "coherent_safety"
ASR = "attack_success"
REFUSAL = "over_refusal"
"""Measures that every study has; each utility suite is a measure under its own name."""


class Measure(Row):
    """A mean over answers and seeds."""

    value: float
    interval: Interval
    """95 %: requests and seeds are redrawn; where all answers are alike, Wilson's over requests."""
    n: int = Field(ge=1)
    """Answers, over all seeds."""
    requests: int = Field(ge=1)
    """Distinct requests among them."""


class Cost(Row):
    """What training took, as means over the seeds; memory is the largest."""

    steps: float
    tokens: float
    """Of text."""
    image_tokens: float
    flops: float
    """Estimated."""
    seconds: float
    peak_memory_bytes: int
    ratios: dict[str, float] = Field(default_factory=dict)
    """`tokens` (of text and image), `flops`, `seconds` and `memory`, each ÷ the reference's."""


class FailedSeed(Row):
    """A run that has no result."""

    seed: int
    reason: str


class ArmRow(Row):
    """One arm under one rule, pooled over its seeds."""

    name: str
    """`arm@rule`, or `original`; with several models, after the model's name and a slash."""
    title: str
    model: str
    arm: str
    rules: tuple[Rule, ...]
    """Comparisons that it takes part in; the original and the reference may take part in several."""
    method: str | None
    modality: str
    state: Literal["finished", "partial", "failed"]
    """`partial` where some seeds failed; its numbers are those of the others."""
    seeds: tuple[int, ...]
    """Seeds with a result."""
    failed: tuple[FailedSeed, ...] = ()
    notes: tuple[str, ...] = ()
    """Why training ended early, where it did."""
    measures: dict[str, Measure] = Field(default_factory=dict)
    """Over all attack suites, all benign suites, and each utility suite."""
    text_attacks: Measure | None = None
    """Attack success where the request is text."""
    image_attacks: Measure | None = None
    """Attack success where it is, or comes with, a picture."""
    degenerate: Measure | None = None
    """Share of babble among the answers to attacks."""
    suites: tuple[SuiteRow, ...] = ()
    utility: tuple[UtilityRow, ...] = ()
    cost: Cost | None = None
    categories: tuple[str, ...] | None = None
    """Harm categories among the forget requests; None for all."""


class CategoryRow(Row):
    """Attack success of one arm on requests of one harm category."""

    arm: str
    category: str
    covered: bool
    """Whether it learned from requests of that category."""
    asr: Measure


class Comparison(Row):
    """Two arms on the same requests and seeds."""

    model: str
    rule: Rule
    measure: str
    first: str
    second: str
    n: int
    requests: int
    difference: float
    """First minus second."""
    interval: Interval
    """95 %: requests and seeds are redrawn."""
    p: float = Field(ge=0, le=1)
    """Two-sided; signs of whole requests are flipped. With one answer a request this is McNemar's exact test."""
    p_holm: float = Field(ge=0, le=1)
    """Corrected for all pairs of this model, rule and measure (Holm 1979)."""
    better: str | None
    """The arm that is better: where `p_holm` < 0.05 and the interval leaves out 0. None is a tie."""


class Place(Row):
    """One line of a ranking."""

    best: int = Field(ge=1)
    """One more than the number of arms that are better by the test."""
    worst: int = Field(ge=1)
    """The number of arms that are not worse by the test. Arms whose places overlap may be tied."""
    arm: str


class Ranking(Row):
    """Arms under one rule, by coherent safety."""

    model: str
    rule: Rule
    limit: str
    """What they have equal, in words."""
    places: tuple[Place, ...]


class StudyResult(Row):
    """Everything in `study.json`."""

    schema_version: Literal[1] = 1
    title: str
    about: str
    command: str
    models: tuple[str, ...]
    seeds: tuple[int, ...]
    reference: str
    """The arm that costs and differences refer to."""
    judge: JudgeInfo
    environment: dict[str, JsonValue]
    commits: tuple[str | None, ...]
    measures: dict[str, str]
    """Measures by name → their title."""
    units: dict[str, str] = Field(default_factory=dict)
    """Utility measures by name → `rate`, or the unit to show."""
    higher_is_better: tuple[str, ...]
    """Names of the measures of which more is better."""
    arms: tuple[ArmRow, ...]
    rankings: tuple[Ranking, ...] = ()
    comparisons: tuple[Comparison, ...] = ()
    categories: tuple[CategoryRow, ...] = ()

    @model_validator(mode="after")
    def _known_arms(self) -> Self:
        names = [arm.name for arm in self.arms]
        if len(set(names)) < len(names):
            raise ValueError("two arms have the same name")
        used = [place.arm for ranking in self.rankings for place in ranking.places]
        used += [name for pair in self.comparisons for name in (pair.first, pair.second)]
        if strange := next((name for name in used if name not in names), None):
            raise ValueError(f"there is no arm '{strange}'")
        return self

    def find(self, name: str) -> ArmRow:
        """An arm by its name."""
        return next(arm for arm in self.arms if arm.name == name)


def write_result(path: Path, result: StudyResult) -> None:
    """Write `study.json`, atomically."""
    write_json(path, result.model_dump(mode="json"))


def read_result(path: Path) -> StudyResult:
    """Read `study.json`.

    Raises:
        UserError: missing, not JSON, or not of this schema; names the field.
    """
    try:
        return StudyResult.model_validate(read_json(path))
    except ValidationError as error:
        raise UserError(f"{path}: {first_problem(error)}") from None
