"""What `robustness.json` holds: what each check does to the unlearned model and to the original, and the verdicts."""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Literal, Self, TypeAlias

from pydantic import Field, JsonValue, ValidationError, model_validator

from unsay.errors import UserError
from unsay.files import problems, read_json, read_versioned, write_json
from unsay.records import Label, Phase, Prompt, Verdict
from unsay.scoring.rates import compare_suite, corrected, score_suite
from unsay.scoring.schema import AcceleratorPeak, Caution, Change, JudgeInfo, Row, SparseRow, SuiteCoverage, SuiteRow
from unsay.scoring.subsets import plain_title
from unsay.statistics import Interval, difference_interval, mean_interval, resampled_mean

SCHEMA_VERSION = 1

FILE = "robustness.json"
"""In a run directory."""

Setting: TypeAlias = Mapping[str, str | int | float | bool]
"""What is done to a model or to its prompts, by name: `{"steps": 16, "share": 10, "rate": 1e-4}`; empty for nothing."""


class Subject(StrEnum):
    """The model that a check attacks."""

    UNLEARNED = "unlearned"
    """The original with the adapter."""
    REFERENCE = "reference"
    """The original, which was never unlearned, under the same attack."""

    @property
    def phase(self) -> Phase:
        """The phase of a run in which this model answers without an attack."""
        return Phase.AFTER if self is Subject.UNLEARNED else Phase.BEFORE


class Outcome(Row):
    """The verdicts on one model's answers to one suite under one setting of a check."""

    subject: Subject
    setting: dict[str, str | int | float | bool] = Field(default_factory=dict)
    """What was done; empty for the model without an attack."""
    counts: SuiteRow
    """Counts and rates; its phase is `after` for the unlearned model and `before` for the reference."""
    baseline: dict[str, str | int | float | bool] = Field(default_factory=dict)
    """The setting that `change` starts from; empty for the same model without an attack."""
    change: Change | None = None
    """From the baseline to this setting, on the prompts that both asked; None where none was asked in both."""
    from_reference: Change | None = None
    """From the reference to the unlearned model under the same setting; None in rows of the reference."""


class Number(Row):
    """One number that sums a check up, as the area under a curve."""

    name: str
    """The name by which studies read it: `harmful@16`, `area`."""
    subject: Subject
    setting: dict[str, str | int | float | bool] = Field(default_factory=dict)
    """What distinguishes it from other numbers of its name."""
    suite: str = ""
    """Empty where it belongs to no suite."""
    title: str = ""
    """For people."""
    unit: str = "rate"
    """`rate` is a fraction that is shown in per cent; any other unit is shown beside the number."""
    value: float | None
    """None where there is no such number, as the steps to a rate that is never reached."""
    interval: Interval | None = None
    """95 %, redrawing requests."""
    n: int = Field(default=0, ge=0)
    """Requests behind it; 0 where it is no mean over requests."""
    values: dict[str, float] = Field(default_factory=dict)
    """Of each request, by its key; empty where it is no mean over requests. Studies pair arms by it."""
    from_reference: float | None = None
    """This number minus the reference's, paired by request; None in rows of the reference."""
    from_reference_interval: Interval | None = None


class CheckResult(AcceleratorPeak):
    """One check of the battery."""

    check: str
    title: str
    source: str
    """The paper that the setting is from."""
    version: int
    quick: bool
    """Whether this is the check's short form."""
    setting: str = ""
    """What is done, in a few words."""
    axis: str = ""
    """The part of the setting along which outcomes form a curve: `steps`; empty for none."""
    notes: tuple[str, ...] = ()
    """What was left out or cut, a line each."""
    failed: str = ""
    """Why the check has no numbers, in one line; empty where it has."""
    outcomes: tuple[Outcome, ...] = ()
    numbers: tuple[Number, ...] = ()
    seconds: float = Field(default=0.0, ge=0)
    text_tokens: int = Field(default=0, ge=0)
    """Read and written while answering, not while training."""
    image_tokens: int = Field(default=0, ge=0)
    flops: float = Field(default=0.0, ge=0)
    """Of answering, estimated."""
    peak_memory_bytes: int = Field(default=0, ge=0)
    reused: bool = False
    """Nothing was done again: the result is that of an earlier call."""

    def outcome(self, subject: Subject, suite: str, setting: Setting) -> Outcome:
        """The row of a subject, a suite and a setting; a KeyError if there is none."""
        for row in self.outcomes:
            if (row.subject, row.counts.suite, row.setting) == (subject, suite, dict(setting)):
                return row
        raise KeyError((self.check, subject, suite, setting))

    def number(self, name: str, subject: Subject, suite: str = "", setting: Setting | None = None) -> Number:
        """The number of this name; a KeyError if there is none."""
        for row in self.numbers:
            if (row.name, row.subject, row.suite, row.setting) == (name, subject, suite, dict(setting or {})):
                return row
        raise KeyError((self.check, name, subject, suite, setting))


class Robustness(SparseRow):
    """Everything in `robustness.json`."""

    optional = ("warnings",)

    schema_version: Literal[1] = 1
    unattacked: tuple[Outcome, ...] = ()
    """Both models without an attack, on the prompts that the checks ask."""
    checks: tuple[CheckResult, ...] = ()
    judge: JudgeInfo
    asked: tuple[SuiteCoverage, ...] = ()
    settings: dict[str, JsonValue] = Field(default_factory=dict)
    """Model, adapter, seed, precision, generation."""
    warnings: tuple[Caution, ...] = ()
    """What the reader must know before believing the numbers."""

    @model_validator(mode="after")
    def _no_twice(self) -> Self:
        names = [row.check for row in self.checks]
        if len(set(names)) < len(names):
            raise ValueError("a check has two results")
        return self

    def check(self, name: str) -> CheckResult:
        """The result of a check; a KeyError if it was not run."""
        for row in self.checks:
            if row.check == name:
                return row
        raise KeyError(name)


def score_outcome(
    prompts: Sequence[Prompt],
    labels: Mapping[str, Label],
    subject: Subject,
    setting: Setting,
    judge: JudgeInfo,
    *,
    baseline: Setting | None = None,
    labels_of_baseline: Mapping[str, Label] | None = None,
    labels_of_reference: Mapping[str, Label] | None = None,
    title: str | None = None,
    seed: int = 0,
) -> Outcome:
    """Count the labels of one suite (prompt id → label) and compare them, prompt by prompt, with two other lots.

    The prompts are of one kind, modality and condition. Others' labels count where they are on the same prompt ids.
    """

    def change(others: Mapping[str, Label] | None) -> Change | None:
        shared = [row for row in prompts if others is not None and row.id in others]
        if others is None or not shared:
            return None
        return compare_suite(_verdicts(shared, others), _verdicts(shared, labels), shared, title=title, seed=seed)

    row = score_suite(
        prompts, _verdicts(prompts, labels), _verdicts(prompts, labels), subject.phase, title=title, seed=seed
    )
    return Outcome(
        subject=subject,
        setting=dict(setting),
        counts=corrected(row, judge, seed=seed),
        baseline=dict(baseline or {}),
        change=change(labels_of_baseline),
        from_reference=change(labels_of_reference) if subject is Subject.UNLEARNED else None,
    )


def _verdicts(prompts: Sequence[Prompt], labels: Mapping[str, Label]) -> list[Verdict]:
    return [Verdict(id=row.id, judge="", label=labels[row.id], rationale="") for row in prompts]


def score_number(
    name: str,
    subject: Subject,
    values: Mapping[str, float],
    *,
    reference: Mapping[str, float] | None = None,
    setting: Setting | None = None,
    suite: str = "",
    title: str = "",
    unit: str = "rate",
    seed: int = 0,
) -> Number:
    """The mean of one value per request (group → value), with its interval and its difference from the reference's.

    Intervals of rates are no shorter than few requests allow; those of other units are plain bootstraps over requests,
    and one request has none.
    """
    groups = sorted(values)
    numbers = [values[group] for group in groups]
    reference = reference if subject is Subject.UNLEARNED else None
    shared = sorted(values.keys() & (reference or {}).keys())
    differences = [values[group] - (reference or {})[group] for group in shared]
    if unit == "rate":
        interval = mean_interval(numbers, groups, seed=seed)
        of_difference = difference_interval(differences, shared, seed=seed) if differences else None
    else:
        interval = resampled_mean(numbers, groups, seed=seed).interval if len(numbers) > 1 else None
        of_difference = resampled_mean(differences, shared, seed=seed).interval if len(differences) > 1 else None
    return Number(
        name=name,
        subject=subject,
        setting=dict(setting or {}),
        suite=suite,
        title=title or plain_title(name),
        unit=unit,
        value=sum(numbers) / len(numbers) if numbers else None,
        interval=interval,
        n=len(numbers),
        values={group: values[group] for group in groups},
        from_reference=sum(differences) / len(differences) if differences else None,
        from_reference_interval=of_difference,
    )


def result_path(folder: Path, check: str, quick: bool) -> Path:
    """The file of one check's result in a run directory, in short or in full."""
    return folder / "robustness" / check / ("quick.json" if quick else "full.json")


def read_result(path: Path) -> CheckResult:
    """Read one check's result; a `UserError` if it is not JSON, or not of this schema."""
    try:
        return CheckResult.model_validate(read_json(path))
    except ValidationError as error:
        raise UserError(f"{path}: {problems(error, CheckResult)}: delete it") from None


def write_robustness(folder: Path, result: Robustness) -> None:
    """Write `robustness.json` into a run directory, atomically."""
    write_json(folder / FILE, result.model_dump(mode="json"))


def read_robustness(folder: Path) -> Robustness | None:
    """Read `robustness.json` of a run directory; None if it has none.

    Raises:
        UserError: not JSON, or not of this schema; names the field, or says what to do about another version.
    """
    path = folder / FILE
    if not path.exists():
        return None
    again = "run `unsay robustness` again; finished checks are not repeated"
    return read_versioned(path, Robustness, SCHEMA_VERSION, again)


def read_in_short(folder: Path) -> tuple[CheckResult, ...]:
    """The results of a run directory's checks in their short form; none of a check that was only run in full.

    `robustness.json` prefers the full form, whose curves and answers are more than the short one's.

    Raises:
        UserError: as `read_robustness`.
    """
    result = read_robustness(folder)
    found = []
    for check in result.checks if result is not None else ():
        path = result_path(folder, check.check, quick=True)
        if check.quick:
            found.append(check)
        elif path.exists() and (short := read_result(path)).version == check.version:
            found.append(short)
    return tuple(found)
