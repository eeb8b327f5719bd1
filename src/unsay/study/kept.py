"""The finished runs of a study as one small file: what its statistics need of every answer, and no text.

Two kinds of lines: a suite's items, once, and a run with one letter for every verdict. From this file alone every
table, interval and test of a study can be computed again, and runs that were done elsewhere can join a study.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, Self

from pydantic import Field, JsonValue, model_validator

from unsay.errors import UserError
from unsay.files import content_key, read_numbered_rows, write_rows
from unsay.pipeline.finished import Item, MeasuredRun, Step
from unsay.records import Label, Phase, Record
from unsay.scoring import Scores
from unsay.study.settings import ORIGINAL, folder_name

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
