"""Finished runs of a study: kept in a small file, found again, and checked for comparability.

The finished runs of a study as one small file: what its statistics need of every answer, and no text.

Two kinds of lines: a suite's items, once, and a run with one letter for every verdict. From this file alone every
table, interval and test of a study can be computed again, and runs that were done elsewhere can join a study.

The finished runs of a study, wherever they are: in its directory, or in what was handed over.

Whether runs that were done elsewhere can be compared with the others of a study.
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
from unsay.studies.job import MADE, evaluation_key, read_outcome
from unsay.studies.plan import Plan
from unsay.studies.settings import ORIGINAL, Folders, folder_name

LETTERS = {label.value[0]: label for label in Label}
"""`r`efused, `s`afe, `h`armful, `d`egenerate, `f`ailed."""


class RunId(NamedTuple):
    """Which run of a study."""

    model: str
    """The model's folder name."""
    variant: str
    """`arm@rule`, or `original`."""
    seed: int | None
    """None for the original, which serves all seeds."""

    @classmethod
    def original(cls, model: str) -> Self:
        """Of the evaluation of a model without training."""
        return cls(folder_name(model), ORIGINAL, None)

    @classmethod
    def trained(cls, model: str, variant: str, seed: int) -> Self:
        """Of a run of a variant, `arm@rule`."""
        return cls(folder_name(model), variant, seed)

    @property
    def phase(self) -> Phase:
        """Whose answers count."""
        return Phase.BEFORE if self.variant == ORIGINAL else Phase.AFTER


class Found(NamedTuple):
    """A finished run, wherever it was found."""

    run: MeasuredRun
    key: str
    """What decides it (`job_key`)."""
    evaluated: str | None
    """Of an original: the key of its evaluation, which is a part of the keys of the runs on that model."""


class KeptItems(Record):
    """What was asked in a suite."""

    suite: str
    key: str
    """Content key of the items."""
    items: tuple[Item, ...]

    @model_validator(mode="after")
    def _whole(self) -> Self:
        if self.key != content_key(self.items):
            raise ValueError("these are not the items of that key")
        return self


class KeptRun(Record):
    """One run. Labels and values stand in the order of a suite's items; the rest is explained at `MeasuredRun`."""

    model: str
    variant: str
    seed: int | None
    key: str
    evaluated: str | None = None
    alike: str
    environment: dict[str, JsonValue]
    scores: Scores
    suites: dict[str, str]
    """Suite → key of its items."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Suite → one letter for each verdict."""
    values: dict[str, tuple[float | None, ...]] = Field(default_factory=dict)
    asked_steps: int
    steps: tuple[Step, ...] = ()
    stopped: str | None = None

    @property
    def id(self) -> RunId:
        """Which run it is."""
        return RunId(self.model, self.variant, self.seed)

    @model_validator(mode="after")
    def _costs(self) -> Self:
        if len(self.scores.cost) != (self.variant != ORIGINAL):
            raise ValueError("a trained run has one cost, that of its training, and an original none")
        return self


class Line(Record):
    """A line of the file: one of the two."""

    suite: KeptItems | None = None
    run: KeptRun | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.suite is None) == (self.run is None):
            raise ValueError("expected either a suite or a run")
        return self


def write_kept(path: Path, runs: Iterable[tuple[RunId, Found]]) -> None:
    """Write the file, atomically."""
    suites: dict[str, Line] = {}
    kept: list[Line] = []
    for which, found in runs:
        keys = {name: content_key(items) for name, items in found.run.items.items()}
        for name, items in found.run.items.items():
            suites.setdefault(keys[name], Line(suite=KeptItems(suite=name, key=keys[name], items=items)))
        kept.append(Line(run=_kept(which, found, keys)))
    write_rows(path, [*suites.values(), *kept])


def read_kept(path: Path) -> list[tuple[RunId, Found]]:
    """Read the file.

    Raises:
        UserError: missing or malformed, or a run whose verdicts are not those that its scores count; names the line.
    """
    suites: dict[str, tuple[Item, ...]] = {}
    runs: list[tuple[RunId, Found]] = []
    for number, line in read_numbered_rows(path, Line):
        if line.suite is not None:
            suites[line.suite.key] = line.suite.items
        elif line.run is not None:
            try:
                runs.append((line.run.id, _found(line.run, suites, f"{path}:{number}")))
            except (KeyError, ValueError):
                raise UserError(f"{path}:{number}: its labels or values do not belong to what was asked") from None
    return runs


def _kept(which: RunId, found: Found, keys: dict[str, str]) -> KeptRun:
    run = found.run
    return KeptRun(
        model=which.model,
        variant=which.variant,
        seed=which.seed,
        key=found.key,
        evaluated=found.evaluated,
        alike=run.alike,
        environment=run.environment,
        scores=run.scores,
        suites=keys,
        labels={suite: "".join(label.value[0] for label in labels) for (suite, _), labels in run.verdicts.items()},
        values={suite: values for (suite, _), values in run.values.items()},
        asked_steps=run.asked_steps,
        steps=run.steps,
        stopped=run.stopped,
    )


def _found(kept: KeptRun, suites: dict[str, tuple[Item, ...]], name: str) -> Found:
    phase = kept.id.phase
    run = MeasuredRun(
        name=name,
        seed=kept.seed or 0,
        alike=kept.alike,
        scores=kept.scores,
        environment=dict(kept.environment),
        items={suite: suites[key] for suite, key in kept.suites.items()},
        verdicts={(s, phase): tuple(LETTERS[letter] for letter in letters) for s, letters in kept.labels.items()},
        values={(suite, phase): values for suite, values in kept.values.items()},
        asked_steps=kept.asked_steps,
        steps=kept.steps,
        stopped=kept.stopped,
    )
    run.check()
    for row in run.scores.utility:
        run.graded(row)
    return Found(run, kept.key, kept.evaluated)


class Finder:
    """Finds runs; each is read once.

    Attributes:
        folders: the study's directory.
        known: runs that were handed over and turned out to be runs of this study.
    """

    def __init__(self, folders: Folders) -> None:
        self.folders = folders
        self.known: dict[RunId, Found] = {}
        self._read: dict[RunId, Found] = {}

    def original(self, model: str) -> Found | None:
        """The evaluation of a model without training; None if there is none."""
        found = self._find(RunId.original(model), self.folders.original(model))
        return None if isinstance(found, str) else found

    def run(self, model: str, variant: str, seed: int) -> Found | str:
        """A trained run, or why there is none."""
        return self._find(RunId.trained(model, variant, seed), self.folders.run(model, variant, seed))

    def forget(self, model: str) -> None:
        """Known runs of a model (its folder's name) are no longer runs of this study."""
        self.known = {which: found for which, found in self.known.items() if which.model != model}

    def every(self, planned: Plan) -> Iterator[tuple[RunId, Found]]:
        """All finished runs of a study."""
        for model in planned.study.models:
            if (original := self.original(model)) is not None:
                yield RunId.original(model), original
        for variant in planned.variants:
            for seed in planned.study.seeds:
                if not isinstance(found := self.run(variant.model, variant.name, seed), str):
                    yield RunId.trained(variant.model, variant.name, seed), found

    def _find(self, which: RunId, folder: Path) -> Found | str:
        if which in self.known:
            return self.known[which]
        if which in self._read:
            return self._read[which]
        outcome = read_outcome(folder)
        if outcome is None:
            return "it was not run to its end"
        if outcome.state == "failed":
            return outcome.reason
        if which.variant != ORIGINAL and not all((folder / path).exists() for path in MADE):
            return "some of its files are gone"
        try:
            evaluated = evaluation_key(folder) if which.variant == ORIGINAL else None
            run = read_run(folder).as_measured(which.phase)
        except UserError as error:
            return f"its files cannot be read: {error}".replace(f"{folder}/", "")
        self._read[which] = Found(run, outcome.key, evaluated)
        return self._read[which]


def of_study(planned: Plan, known: Iterable[tuple[RunId, Found]]) -> dict[RunId, list[Found]]:
    """Those runs that a study asks for, whatever their settings are.

    Raises:
        UserError: there are runs, and none of them is.
    """
    wanted = {RunId.original(model) for model in planned.study.models}
    wanted |= {RunId.trained(v.model, v.name, seed) for v in planned.variants for seed in planned.study.seeds}
    found: dict[RunId, list[Found]] = {}
    strange = None
    for which, run in known:
        if which in wanted:
            found.setdefault(which, []).append(run)
        else:
            strange = run.run.name
    if strange is not None and not found:
        raise UserError(f"{strange}: neither this run nor another one that was handed over is of this study")
    return found


def check_versions(runs: Iterable[tuple[str, Mapping[str, object]]], here: Mapping[str, object] | None) -> None:
    """Refuse runs of different versions.

    Args:
        runs: the name of each, and the environment that it was made with.
        here: the versions here, where more runs are to be done here; else None.

    Raises:
        UserError: two runs were made with different versions, or one with others than those here.
    """
    first, wanted = "here", here
    for name, environment in runs:
        made = {part: environment.get(part) for part in VERSIONS}
        if wanted is None:
            first, wanted = name, made
        if differ := [pair for part in VERSIONS for pair in _differing(part, made[part], wanted[part])]:
            theirs, ours = (", ".join(some) for some in zip(*differ, strict=True))
            raise UserError(
                f"{name}: made with {theirs}, but {first} it is {ours}: runs of different versions are not compared; "
                "install the same, or do without this run"
            )


def _differing(name: str, theirs: object, ours: object) -> list[tuple[str, str]]:
    """What differs, by name and version on either side; of libraries only those that do."""
    if isinstance(theirs, Mapping) and isinstance(ours, Mapping):
        parts = dict.fromkeys([*theirs, *ours])
        return [pair for part in parts for pair in _differing(part, theirs.get(part), ours.get(part))]
    return [] if theirs == ours else [(f"{name} {theirs}", f"{name} {ours}")]
