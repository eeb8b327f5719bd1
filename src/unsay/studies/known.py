"""Finished runs of a study: in its directory, or handed over in a `runs.jsonl`.

`runs.jsonl` has what the statistics need of every answer, and no text: a row for the items of each suite, then a row
for each run with one letter for every verdict. From it alone every table, interval and test of a study can be computed
again, and runs that were done elsewhere can join a study.
"""

from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple, Self

from pydantic import Field, JsonValue, model_validator

from unsay.errors import UserError
from unsay.files import content_key, read_numbered_rows, write_rows
from unsay.records import Label, Phase, Record
from unsay.run.finished import VERSIONS, Item, MeasuredRun, Step, read_run
from unsay.scoring import Scores
from unsay.scoring.robustness import Subject
from unsay.scoring.withstanding import Withstood
from unsay.studies.job import RESULT_FILES, evaluation_key, read_status
from unsay.studies.settings import ORIGINAL, StudyDirectory, folder_name
from unsay.studies.study_plan import Plan

LETTERS = {label.value[0]: label for label in Label}
"""`r`efused, `s`afe, `h`armful, `d`egenerate, `f`ailed."""


class RunId(NamedTuple):
    """Identifies a run within a study."""

    model: str  # the model's folder name
    variant: str  # `arm@rule`, or `original`
    seed: int | None  # None for the original, which serves all seeds

    @classmethod
    def original(cls, model: str) -> Self:
        """The evaluation of an original model."""
        return cls(folder_name(model), ORIGINAL, None)

    @classmethod
    def trained(cls, model: str, variant: str, seed: int) -> Self:
        """A run of a variant, `arm@rule`."""
        return cls(folder_name(model), variant, seed)

    @property
    def phase(self) -> Phase:
        """The phase whose answers count."""
        return Phase.BEFORE if self.variant == ORIGINAL else Phase.AFTER


class KeyedRun(NamedTuple):
    """A finished run with what decides whether it is a run of a study."""

    run: MeasuredRun
    key: str  # the key of its job (`job_key`)
    # Of an original: the key of its evaluation, which is part of the keys of the trained runs of that model.
    evaluated: str | None


class StudyRuns:
    """The finished runs of a study, in its directory or handed over (`known`); each is read once."""

    def __init__(self, folders: StudyDirectory) -> None:
        self.folders = folders
        self.known: dict[RunId, KeyedRun] = {}
        self._read: dict[RunId, KeyedRun] = {}

    def original(self, model: str) -> KeyedRun | None:
        """The evaluation of an original model, if there is one."""
        run = self._get(RunId.original(model), self.folders.original(model))
        return None if isinstance(run, str) else run

    def trained(self, model: str, variant: str, seed: int) -> KeyedRun | str:
        """A trained run, or the reason why there is none."""
        return self._get(RunId.trained(model, variant, seed), self.folders.run(model, variant, seed))

    def used(self, model: str, variant: str, seed: int) -> MeasuredRun | None:
        """A run whose training has ended, be it that a check of it failed later; None if there is none."""
        run, folder = self.trained(model, variant, seed), self.folders.run(model, variant, seed)
        if not isinstance(run, str):
            return run.run
        if read_status(folder) is None or not all((folder / path).exists() for path in RESULT_FILES):
            return None
        return read_run(folder).as_measured(Phase.AFTER)

    def forget(self, model: str) -> None:
        """Drop the known runs of a model, given by its folder name."""
        self.known = {run_id: run for run_id, run in self.known.items() if run_id.model != model}

    def every(self, plan: Plan) -> Iterator[tuple[RunId, KeyedRun]]:
        """All finished runs that a plan has."""
        for model in plan.study.models:
            if (original := self.original(model)) is not None:
                yield RunId.original(model), original
        for variant in plan.variants:
            for seed in plan.study.seeds:
                if not isinstance(run := self.trained(variant.model, variant.name, seed), str):
                    yield RunId.trained(variant.model, variant.name, seed), run

    def _get(self, run_id: RunId, folder: Path) -> KeyedRun | str:
        if run_id in self.known:
            return self.known[run_id]
        if run_id in self._read:
            return self._read[run_id]
        status = read_status(folder)
        if status is None:
            return "it was not run to its end"
        if status.state == "failed":
            return status.reason
        if run_id.variant != ORIGINAL and not all((folder / path).exists() for path in RESULT_FILES):
            return "some of its files are gone"
        try:
            evaluated = evaluation_key(folder) if run_id.variant == ORIGINAL else None
            run = read_run(folder).as_measured(run_id.phase)
        except UserError as error:
            return f"its files cannot be read: {error}".replace(f"{folder}/", "")
        self._read[run_id] = KeyedRun(run, status.key, evaluated)
        return self._read[run_id]


def of_plan(plan: Plan, runs: Iterable[tuple[RunId, KeyedRun]]) -> dict[RunId, list[KeyedRun]]:
    """Those of some runs that a plan has, whatever their settings are; a `UserError` if it has none of them."""
    wanted = {RunId.original(model) for model in plan.study.models}
    wanted |= {RunId.trained(v.model, v.name, seed) for v in plan.variants for seed in plan.study.seeds}
    known: dict[RunId, list[KeyedRun]] = {}
    other = None
    for run_id, run in runs:
        if run_id in wanted:
            known.setdefault(run_id, []).append(run)
        else:
            other = run.run.name
    if other is not None and not known:
        raise UserError(f"{other}: neither this run nor any other that was handed over belongs to this study")
    return known


def check_versions(runs: Iterable[tuple[str, Mapping[str, object]]], here: Mapping[str, object] | None) -> None:
    """Refuse runs of different versions, or of versions other than those `here`, if more runs are to be done here.

    Each run has a name and the environment that it was made with.
    """
    first, expected = "here", here
    for name, environment in runs:
        made = {part: environment.get(part) for part in VERSIONS}
        if expected is None:
            first, expected = name, made
        if differing := [pair for part in VERSIONS for pair in _differing(part, made[part], expected[part])]:
            theirs, ours = (", ".join(versions) for versions in zip(*differing, strict=True))
            raise UserError(
                f"{name}: made with {theirs}, but {first} it is {ours}: runs of different versions are not compared; "
                "install the same, or do without this run"
            )


def _differing(name: str, theirs: object, ours: object) -> list[tuple[str, str]]:
    """Differing versions, as `name version` on either side; of libraries only those that differ."""
    if isinstance(theirs, Mapping) and isinstance(ours, Mapping):
        parts = dict.fromkeys([*theirs, *ours])
        return [pair for part in parts for pair in _differing(part, theirs.get(part), ours.get(part))]
    return [] if theirs == ours else [(f"{name} {theirs}", f"{name} {ours}")]


class ItemsRow(Record):
    """The items of a suite, as a row of the file."""

    suite: str
    key: str  # content key of the items
    items: tuple[Item, ...]

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.key != content_key(self.items):
            raise ValueError("the items do not have this key; they were edited")
        return self


class WithstoodRow(Record):
    """What one robustness check found of one subject on the requests of one suite, by the request's key."""

    measure: str
    subject: Subject
    suite: str
    values: dict[str, float]


class RunRow(Record):
    """A run, as a row of the file. Labels and values are in the order of a suite's items; see also `MeasuredRun`."""

    model: str
    variant: str
    seed: int | None
    key: str
    evaluated: str | None = None
    alike: str
    environment: dict[str, JsonValue]
    scores: Scores
    suites: dict[str, str]  # suite → key of its items
    labels: dict[str, str] = Field(default_factory=dict)  # suite → one letter for each verdict
    values: dict[str, tuple[float | None, ...]] = Field(default_factory=dict)
    log_odds: dict[str, tuple[float | None, ...]] = Field(default_factory=dict)  # of a refusal
    asked_steps: int
    steps: tuple[Step, ...] = ()
    stopped: str | None = None
    withstood: tuple[WithstoodRow, ...] = ()

    @property
    def id(self) -> RunId:
        """Its identity within the study."""
        return RunId(self.model, self.variant, self.seed)

    @model_validator(mode="after")
    def _costs(self) -> Self:
        if len(self.scores.cost) != (self.variant != ORIGINAL):
            raise ValueError("a trained run has one cost, that of its training, and an original none")
        return self


class FileRow(Record):
    """A row of the file: one of the two kinds."""

    suite: ItemsRow | None = None
    run: RunRow | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.suite is None) == (self.run is None):
            raise ValueError("expected either a suite or a run")
        return self


def write_runs(path: Path, runs: Iterable[tuple[RunId, KeyedRun]]) -> None:
    """Write a `runs.jsonl`, atomically."""
    suites: dict[str, FileRow] = {}
    rows: list[FileRow] = []
    for run_id, run in runs:
        keys = {name: content_key(items) for name, items in run.run.items.items()}
        for name, items in run.run.items.items():
            suites.setdefault(keys[name], FileRow(suite=ItemsRow(suite=name, key=keys[name], items=items)))
        rows.append(FileRow(run=_to_row(run_id, run, keys)))
    write_rows(path, [*suites.values(), *rows])


def read_runs(path: Path) -> list[tuple[RunId, KeyedRun]]:
    """Read a `runs.jsonl`.

    A `UserError` says that it is another file, or names the line that is malformed or whose verdicts differ from its
    scores.
    """
    if path.is_dir() or path.suffix == ".json":
        raise UserError(
            f"{path}: expected a study's runs.jsonl, such as {path if path.is_dir() else path.parent}/runs.jsonl"
        )
    suites: dict[str, tuple[Item, ...]] = {}
    runs: list[tuple[RunId, KeyedRun]] = []
    for number, row in read_numbered_rows(path, FileRow):
        if row.suite is not None:
            suites[row.suite.key] = row.suite.items
        elif row.run is not None:
            try:
                runs.append((row.run.id, _from_row(row.run, suites, f"{path}:{number}")))
            except (KeyError, ValueError):
                raise UserError(f"{path}:{number}: its labels or values do not match the items of its suites") from None
    if not runs:
        raise UserError(f"{path}: holds no run")
    return runs


def _to_row(run_id: RunId, keyed: KeyedRun, keys: dict[str, str]) -> RunRow:
    run = keyed.run
    return RunRow(
        model=run_id.model,
        variant=run_id.variant,
        seed=run_id.seed,
        key=keyed.key,
        evaluated=keyed.evaluated,
        alike=run.alike,
        environment=run.environment,
        scores=run.scores,
        suites=keys,
        labels={suite: "".join(label.value[0] for label in labels) for (suite, _), labels in run.verdicts.items()},
        values={suite: values for (suite, _), values in run.values.items()},
        log_odds={suite: values for (suite, _), values in run.log_odds.items()},
        asked_steps=run.asked_steps,
        steps=run.steps,
        stopped=run.stopped,
        withstood=tuple(_withstood_rows(run.withstood)),
    )


def _withstood_rows(found: Withstood) -> Iterator[WithstoodRow]:
    for (measure, subject), values in found.items():
        for suite in dict.fromkeys(suite for suite, _ in values):
            of_suite = {group: value for (other, group), value in values.items() if other == suite}
            yield WithstoodRow(measure=measure, subject=subject, suite=suite, values=of_suite)


def _withstood(rows: Iterable[WithstoodRow]) -> Withstood:
    found: dict[tuple[str, Subject], dict[tuple[str, str], float]] = {}
    for row in rows:
        values = {(row.suite, group): value for group, value in row.values.items()}
        found.setdefault((row.measure, row.subject), {}).update(values)
    return found


def _from_row(row: RunRow, suites: dict[str, tuple[Item, ...]], name: str) -> KeyedRun:
    phase = row.id.phase
    run = MeasuredRun(
        name=name,
        seed=row.seed or 0,
        alike=row.alike,
        scores=row.scores,
        environment=dict(row.environment),
        items={suite: suites[key] for suite, key in row.suites.items()},
        verdicts={(s, phase): tuple(LETTERS[letter] for letter in letters) for s, letters in row.labels.items()},
        values={(suite, phase): values for suite, values in row.values.items()},
        log_odds={(suite, phase): values for suite, values in row.log_odds.items()},
        asked_steps=row.asked_steps,
        steps=row.steps,
        stopped=row.stopped,
        withstood=_withstood(row.withstood),
    )
    run.check()
    for utility in run.scores.utility:
        run.graded(utility)
    for suite in run.scores.rows:
        run.odds(suite)
    return KeyedRun(run, row.key, row.evaluated)
