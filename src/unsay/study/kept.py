"""The finished runs of a study as one small file: what its statistics need of every answer, and no text.

Two kinds of lines: a suite's items, once, and a run with one letter for every verdict. From this file alone every
table, interval and test of a study can be computed again, and runs that were done elsewhere can join a study.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple, Self

from pydantic import Field, JsonValue, ValidationError, model_validator

from unsay.config import RunConfig
from unsay.errors import UserError
from unsay.files import content_key, first_problem, read_numbered_rows, write_rows
from unsay.pipeline.finished import FinishedRun, Item, Spent
from unsay.pipeline.results import MADE_WITH
from unsay.records import Label, Phase, Record
from unsay.scoring import Scores
from unsay.study.schema import ORIGINAL

LETTERS = {label.value[0]: label for label in Label}
"""`r`efused, `s`afe, `h`armful, `d`egenerate, `f`ailed."""


class RunId(NamedTuple):
    """Which run of a study."""

    model: str
    """The model's folder name."""
    variant: str
    """`arm@rule`, or `original`."""
    seed: int | None
    """None for the original."""

    @property
    def phase(self) -> Phase:
        """Whose answers count."""
        return Phase.BEFORE if self.variant == ORIGINAL else Phase.AFTER


class Found(NamedTuple):
    """A finished run, wherever it was found."""

    run: FinishedRun
    key: str
    """What decides it (`job_key`)."""
    evaluated: str | None
    """Of an original: the key of its evaluation, which is a part of the keys of the runs on that model."""


class KeptItems(Record):
    """What was asked in a suite."""

    suite: str
    key: str
    items: tuple[Item, ...]


class KeptRun(Record):
    """One run. Labels and values stand in the order of the suite's items."""

    model: str
    variant: str
    seed: int | None
    key: str
    evaluated: str | None = None
    config: dict[str, JsonValue]
    environment: dict[str, JsonValue]
    scores: Scores
    suites: dict[str, str]
    """Suite → key of its items."""
    labels: dict[str, str] = Field(default_factory=dict)
    """Suite → one letter for each verdict."""
    values: dict[str, tuple[float | None, ...]] = Field(default_factory=dict)
    spent: tuple[Spent, ...] = ()
    stopped: str | None = None

    @property
    def id(self) -> RunId:
        """Which run it is."""
        return RunId(self.model, self.variant, self.seed)


class Line(Record):
    """A line of the file: one of the two."""

    suite: KeptItems | None = None
    run: KeptRun | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if (self.suite is None) == (self.run is None):
            raise ValueError("expected either a suite or a run")
        return self


def slim(run: FinishedRun, phase: Phase) -> FinishedRun:
    """The run with what a study looks at: the scores of one phase, and what training cost."""
    scores = Scores(
        rows=tuple(row for row in run.scores.rows if row.phase is phase),
        utility=tuple(row for row in run.scores.utility if row.phase is phase),
        cost=tuple(row for row in run.scores.cost if row.stage == "unlearn"),
        judge=run.scores.judge,
    )
    return FinishedRun(
        name=run.name,
        config=run.config,
        scores=scores,
        environment={name: run.environment.get(name) for name in (*MADE_WITH, "commit")},
        items=run.items,
        verdicts={key: labels for key, labels in run.verdicts.items() if key[1] is phase},
        values={key: values for key, values in run.values.items() if key[1] is phase},
        spent=run.spent,
        stopped=run.stopped,
    )


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


def read_kept(path: Path) -> dict[RunId, Found]:
    """Read the file.

    Raises:
        UserError: missing or malformed, or a run whose verdicts are not those that its scores count; names the line.
    """
    suites: dict[str, tuple[Item, ...]] = {}
    runs: dict[RunId, Found] = {}
    for number, line in read_numbered_rows(path, Line):
        if line.suite is not None:
            suites[line.suite.key] = line.suite.items
        elif line.run is not None:
            try:
                runs[line.run.id] = _found(line.run, suites, f"{path}:{number}")
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
        config=run.config.model_dump(mode="json", exclude={"train": {"seed"}}),
        environment=run.environment,
        scores=run.scores,
        suites=keys,
        labels={suite: "".join(label.value[0] for label in labels) for (suite, _), labels in run.verdicts.items()},
        values={suite: values for (suite, _), values in run.values.items()},
        spent=run.spent,
        stopped=run.stopped,
    )


def _config(values: dict[str, JsonValue], where: str) -> RunConfig:
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{where}: {first_problem(error)}") from None
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def _found(kept: KeptRun, suites: dict[str, tuple[Item, ...]], name: str) -> Found:
    phase = kept.id.phase
    run = FinishedRun(
        name=name,
        config=_config(kept.config, name),
        scores=kept.scores,
        environment=dict(kept.environment),
        items={suite: suites[key] for suite, key in kept.suites.items()},
        verdicts={(s, phase): tuple(LETTERS[letter] for letter in letters) for s, letters in kept.labels.items()},
        values={(suite, phase): values for suite, values in kept.values.items()},
        spent=kept.spent,
        stopped=kept.stopped,
    )
    run.check()
    for row in run.scores.utility:
        run.graded(row)
    return Found(run, kept.key, kept.evaluated)
