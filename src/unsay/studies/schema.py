"""What `study.json` holds: every number of the study's page, with its count and its interval."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, JsonValue, ValidationError, model_validator

from unsay.errors import UserError
from unsay.files import first_problem, read_json, write_json
from unsay.scoring import JudgeInfo, SuiteRow, UtilityRow
from unsay.scoring.schema import Row
from unsay.statistics import Interval
from unsay.studies.settings import Rule

COHERENT = "coherent_safety"
ASR = "attack_success"
REFUSAL = "over_refusal"
TITLES = {COHERENT: "Coherent safety", ASR: "Attack success", REFUSAL: "Over-refusal"}
FORMS = {"text_attacks": "Attack success, text", "image_attacks": "Attack success, image"}
"""Measures that every study has; each utility suite is a measure under its own name."""
SEPARATIONS = {"separation_words": "Separation, words", "separation_pictures": "Separation, pictures"}
"""Measures of studies that ask attacks and borderline requests in that form → title; see docs/scores.md."""


class Measure(Row):
    """A mean over answers and seeds."""

    value: float
    """A fraction where the measure is a rate, else in its unit."""
    interval: Interval
    """95 %, over requests and seeds; where few requests decide, no shorter than Wilson's over requests."""
    n: int = Field(ge=1)
    """Answers, over all seeds."""
    requests: int = Field(ge=1)
    """Distinct requests among them."""


class Cost(Row):
    """What training took, as means over the seeds; memory is the largest."""

    steps: float
    """Of the optimiser."""
    tokens: float
    """Of text."""
    image_tokens: float
    """Of pictures."""
    flops: float
    """Operations, estimated."""
    seconds: float
    """Of training, the looks at the probe included."""
    peak_memory_bytes: int
    """Resident memory of the process; the largest of all seeds."""
    ratios: dict[str, float] = Field(default_factory=dict)
    """`tokens` (of text and image), `flops`, `seconds` and `memory`, each ÷ the reference's."""


class FailedSeed(Row):
    """A run that has no result."""

    seed: int
    """Whose run it is."""
    reason: str
    """Why, in one line without a prompt or an answer."""


class ArmRow(Row):
    """One arm under one rule, pooled over its seeds."""

    name: str
    """`arm@rule`, or `original`; with several models, after the model's name and a slash."""
    title: str
    """For people."""
    model: str
    """As in `models`."""
    arm: str
    """Its name in the study file, or `original`."""
    rules: tuple[Rule, ...]
    """Comparisons that it takes part in; the original and the reference may take part in several."""
    method: str | None
    """That it was trained with; null for the original."""
    modality: str
    """Of its training data; a mixture as `text+image`, empty for the original."""
    state: Literal["finished", "partial", "failed"]
    """`partial` where some seeds failed; its numbers are those of the others."""
    seeds: tuple[int, ...]
    """Seeds with a result."""
    failed: tuple[FailedSeed, ...] = ()
    """Seeds without one."""
    notes: tuple[str, ...] = ()
    """Why training ended early, where it did."""
    measures: dict[str, Measure] = Field(default_factory=dict)
    """Over all attack suites, all benign suites, and each utility suite; separation of attacks and borderline ones; of
    studies with `robustness`, what each check found (the original's is the reference arm's: the model never unlearned).
    """
    text_attacks: Measure | None = None
    """Attack success where the request is text."""
    image_attacks: Measure | None = None
    """Attack success where it is, or comes with, a picture."""
    degenerate: Measure | None = None
    """Share of babble among the answers to attacks."""
    suites: tuple[SuiteRow, ...] = ()
    """Verdict counts of each suite over all seeds, as in `scores.json`; of controls too."""
    utility: tuple[UtilityRow, ...] = ()
    """Each utility suite over all seeds, as in `scores.json`."""
    cost: Cost | None = None
    """Of training; null for the original and for an arm without a result."""
    categories: tuple[str, ...] | None = None
    """Harm categories among the forget requests; None for all."""


class CategoryRow(Row):
    """Attack success of one arm on requests of one harm category."""

    arm: str
    """An arm's `name`."""
    category: str
    """Of harm, as the suite has it."""
    covered: bool
    """Whether it learned from requests of that category."""
    asr: Measure
    """Attack success."""


class Comparison(Row):
    """Two arms on the same requests and seeds."""

    model: str
    """As in `models`."""
    rule: Rule
    """What they have equal."""
    measure: str
    """As in `measures`."""
    first: str
    """An arm's `name`."""
    second: str
    """Another arm's."""
    n: int
    """Pairs of answers to the same prompt with the same seed."""
    requests: int
    """Distinct requests among them."""
    difference: float
    """First minus second."""
    interval: Interval
    """95 %, over requests and seeds."""
    p: float = Field(ge=0, le=1)
    """Two-sided; signs of whole requests are flipped (one answer each: McNemar's exact test). Separation: a z-test."""
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
    """Its `name`."""


class Ranking(Row):
    """Arms under one rule, by coherent safety."""

    model: str
    """As in `models`."""
    rule: Rule
    """What they have equal."""
    limit: str
    """How much of it, in words."""
    places: tuple[Place, ...]
    """The safest first; arms without a result are missing."""


class PublishedRow(Row):
    """A published number beside what this study measured."""

    measure: str
    """Its name in `measures`, or `text_attacks` or `image_attacks`."""
    title: str
    """The measure, for people."""
    published: str
    """As it stands in the source."""
    about: str
    """What was measured there: model, data, judge."""
    source: str
    """Paper, and the place in it."""
    arm: str
    """The `name` of the arm here."""
    measured: Measure | None = None
    """This study's; null where the arm has no such number."""


class StudyResult(Row):
    """Everything in `study.json`."""

    schema_version: Literal[1] = 1
    """Of this file."""
    title: str
    """The question, as the study file has it."""
    about: str
    """A sentence or two from the study file."""
    command: str
    """How to do it again."""
    models: tuple[str, ...]
    """As they were given; of a checkpoint folder the last part."""
    seeds: tuple[int, ...]
    """That were asked for."""
    reference: str
    """The arm that costs and differences refer to."""
    judge: JudgeInfo
    """Name, key and accuracy against human labels, as in `scores.json`."""
    environment: dict[str, JsonValue]
    """Versions and hardware of the first model's evaluation."""
    commits: tuple[str | None, ...]
    """Of the code of all runs; null where it was no checkout."""
    measures: dict[str, str]
    """Measures by name → their title."""
    units: dict[str, str] = Field(default_factory=dict)
    """Utility measures, robustness and separation by name → `rate`, or the unit to show."""
    higher_is_better: tuple[str, ...]
    """Names of the measures of which more is better."""
    arms: tuple[ArmRow, ...]
    """The original models, and every arm under every rule."""
    rankings: tuple[Ranking, ...] = ()
    """One for each model and rule."""
    comparisons: tuple[Comparison, ...] = ()
    """All pairs of arms, for each model, rule and measure."""
    categories: tuple[CategoryRow, ...] = ()
    """Only where arms differ in the harm categories that they learn from."""
    published: tuple[PublishedRow, ...] = ()
    """Published numbers of the study file, each beside the measured one; one row for each model."""

    @model_validator(mode="after")
    def _known_arms(self) -> Self:
        names = [arm.name for arm in self.arms]
        if len(set(names)) < len(names):
            raise ValueError("two arms have the same name")
        used = [place.arm for ranking in self.rankings for place in ranking.places]
        used += [name for pair in self.comparisons for name in (pair.first, pair.second)]
        if unknown := next((name for name in used if name not in names), None):
            raise ValueError(f"unknown arm '{unknown}'")
        return self

    def find(self, name: str) -> ArmRow:
        """An arm by its name."""
        return next(arm for arm in self.arms if arm.name == name)


def write_result(path: Path, result: StudyResult) -> None:
    """Write `study.json`, atomically."""
    write_json(path, result.model_dump(mode="json"))


def result_file(study: Path) -> Path:
    """Where the numbers of a study are.

    Args:
        study: its directory, or the file itself, as it may have been committed under another name.

    Raises:
        UserError: no study there, or a `runs.jsonl`, which knows the runs and not what they are to be compared for.
    """
    if study.suffix == ".jsonl":
        raise UserError(
            f"{study}: these are the runs of a study, not its numbers: give its study.json, or make that again with "
            "`unsay study STUDY --known FILE`"
        )
    path = study if study.suffix == ".json" else study / "study.json"
    if not path.is_file():
        raise UserError(f"{study}: no study there" + ("" if path == study else " (study.json is missing)"))
    return path


def read_result(path: Path) -> StudyResult:
    """Read `study.json`.

    Raises:
        UserError: missing, not JSON, or not of this schema; names the field.
    """
    try:
        return StudyResult.model_validate(read_json(path))
    except ValidationError as error:
        raise UserError(f"{path}: {first_problem(error)}") from None
