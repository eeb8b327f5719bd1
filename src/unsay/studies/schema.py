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
"""Measures that every study has; each utility suite is a measure under its own name."""


class Measure(Row):
    """A mean over answers and seeds."""

    value: float  # a fraction where the measure is a rate, else in its unit
    interval: Interval  # 95 %: requests and seeds are redrawn; where all answers are alike, Wilson's over requests
    n: int = Field(ge=1)  # answers, over all seeds
    requests: int = Field(ge=1)  # distinct requests among them


class Cost(Row):
    """What training took, as means over the seeds; memory is the largest."""

    steps: float  # of the optimiser
    tokens: float  # of text
    image_tokens: float  # of pictures
    flops: float  # operations, estimated
    seconds: float  # of training, the looks at the probe included
    peak_memory_bytes: int  # resident memory of the process; the largest of all seeds
    # `tokens` (of text and image), `flops`, `seconds` and `memory`, each ÷ the reference's.
    ratios: dict[str, float] = Field(default_factory=dict)


class FailedSeed(Row):
    """A run that has no result."""

    seed: int  # whose run it is
    reason: str  # why, in one line without a prompt or an answer


class ArmRow(Row):
    """One arm under one rule, pooled over its seeds."""

    name: str  # `arm@rule`, or `original`; with several models, after the model's name and a slash
    title: str  # for people
    model: str  # as in `models`
    arm: str  # its name in the study file, or `original`
    # Comparisons that it takes part in; the original and the reference may take part in several.
    rules: tuple[Rule, ...]
    method: str | None  # that it was trained with; null for the original
    modality: str  # of its training data; a mixture as `text+image`, empty for the original
    # `partial` where some seeds failed; its numbers are those of the others.
    state: Literal["finished", "partial", "failed"]
    seeds: tuple[int, ...]  # seeds with a result
    failed: tuple[FailedSeed, ...] = ()  # seeds without one
    notes: tuple[str, ...] = ()  # why training ended early, where it did
    # Over all attack suites, all benign suites, and each utility suite.
    measures: dict[str, Measure] = Field(default_factory=dict)
    text_attacks: Measure | None = None  # attack success where the request is text
    image_attacks: Measure | None = None  # attack success where it is, or comes with, a picture
    degenerate: Measure | None = None  # share of babble among the answers to attacks
    # Verdict counts of each suite over all seeds, as in `scores.json`; of controls too.
    suites: tuple[SuiteRow, ...] = ()
    utility: tuple[UtilityRow, ...] = ()  # each utility suite over all seeds, as in `scores.json`
    cost: Cost | None = None  # of training; null for the original and for an arm without a result
    categories: tuple[str, ...] | None = None  # harm categories among the forget requests; None for all


class CategoryRow(Row):
    """Attack success of one arm on requests of one harm category."""

    arm: str  # an arm's `name`
    category: str  # of harm, as the suite has it
    covered: bool  # whether it learned from requests of that category
    asr: Measure  # attack success


class Comparison(Row):
    """Two arms on the same requests and seeds."""

    model: str  # as in `models`
    rule: Rule  # what they have equal
    measure: str  # as in `measures`
    first: str  # an arm's `name`
    second: str  # another arm's
    n: int  # pairs of answers to the same prompt with the same seed
    requests: int  # distinct requests among them
    difference: float  # first minus second
    interval: Interval  # 95 %: requests and seeds are redrawn
    # Two-sided; signs of whole requests are flipped. With one answer a request this is McNemar's exact test.
    p: float = Field(ge=0, le=1)
    p_holm: float = Field(ge=0, le=1)  # corrected for all pairs of this model, rule and measure (Holm 1979)
    better: str | None  # The arm that is better: where `p_holm` < 0.05 and the interval leaves out 0. None is a tie.


class Place(Row):
    """One line of a ranking."""

    best: int = Field(ge=1)  # one more than the number of arms that are better by the test
    # The number of arms that are not worse by the test. Arms whose places overlap may be tied.
    worst: int = Field(ge=1)
    arm: str  # its `name`


class Ranking(Row):
    """Arms under one rule, by coherent safety."""

    model: str  # as in `models`
    rule: Rule  # what they have equal
    limit: str  # how much of it, in words
    places: tuple[Place, ...]  # the safest first; arms without a result are missing


class StudyResult(Row):
    """Everything in `study.json`."""

    schema_version: Literal[1] = 1  # of this file
    title: str  # the question, as the study file has it
    about: str  # a sentence or two from the study file
    command: str  # how to do it again
    models: tuple[str, ...]  # as they were given; of a checkpoint folder the last part
    seeds: tuple[int, ...]  # that were asked for
    reference: str  # the arm that costs and differences refer to
    judge: JudgeInfo  # name, key and accuracy against human labels, as in `scores.json`
    environment: dict[str, JsonValue]  # versions and hardware of the first model's evaluation
    commits: tuple[str | None, ...]  # of the code of all runs; null where it was no checkout
    measures: dict[str, str]  # measures by name → their title
    units: dict[str, str] = Field(default_factory=dict)  # utility measures by name → `rate`, or the unit to show
    higher_is_better: tuple[str, ...]  # names of the measures of which more is better
    arms: tuple[ArmRow, ...]  # the original models, and every arm under every rule
    rankings: tuple[Ranking, ...] = ()  # one for each model and rule
    comparisons: tuple[Comparison, ...] = ()  # all pairs of arms, for each model, rule and measure
    categories: tuple[CategoryRow, ...] = ()  # only where arms differ in the harm categories that they learn from

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
    """Where the numbers of a study are: in its directory, or in the file itself, which may have another name.

    A `runs.jsonl` is a `UserError`: it knows the runs and not what they are to be compared for.
    """
    if study.suffix == ".jsonl":
        raise UserError(
            f"{study}: these are the runs of a study, not its numbers: give its study.json, or make that again with "
            "`unsay study STUDY --known FILE`"
        )
    return study if study.suffix == ".json" else study / "study.json"


def read_result(path: Path) -> StudyResult:
    """Read `study.json`; a `UserError` names the field that is missing or wrong."""
    try:
        return StudyResult.model_validate(read_json(path))
    except ValidationError as error:
        raise UserError(f"{path}: {first_problem(error)}") from None
