"""A finished run as numbers: its prompts by kind and request, the verdict or value of each answer, and no text."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from unsay.config import RunConfig, read_run_config
from unsay.errors import UserError
from unsay.files import content_key, read_json, read_rows
from unsay.records import Condition, Kind, Label, Modality, Phase, Prompt, Record, Response, Verdict
from unsay.reports.charts import read_metrics
from unsay.run.evaluate import Value
from unsay.scoring import Scores, SuiteRow, UtilityRow, read_scores
from unsay.scoring.robustness import read_in_short
from unsay.scoring.subsets import by_id
from unsay.scoring.withstanding import Withstood, withstood

MADE_WITH = ("unsay", "python", "libraries", "cores", "threads", "accelerator", "assets")
"""The parts of `environment.json` that go into results: enough to repeat them, nothing that names a machine."""

VERSIONS = ("unsay", "libraries")
"""The parts that must be equal in runs that are compared, since versions decide numbers too."""

TRAINING_STAGE = "unlearn"
"""The stage whose cost is the cost of training."""


class Item(Record):
    """A prompt without its text: what statistics need."""

    id: str
    group: str  # equal for the same request in different suites and modalities
    kind: Kind
    modality: Modality
    condition: Condition = Condition.NO_IMAGE
    category: str | None = None


class Step(Record):
    """The cost of training up to a step."""

    step: int
    tokens: int  # image tokens included
    seconds: float


@dataclass(frozen=True, kw_only=True)
class MeasuredRun:
    """The results of a run."""

    name: str  # its directory, or wherever it was read from, for messages
    seed: int
    alike: str  # equal for runs that may be pooled
    scores: Scores  # its `scores.json`, or a part of it
    environment: dict[str, Any]
    items: dict[str, tuple[Item, ...]]  # its prompts, by suite
    verdicts: dict[tuple[str, Phase], tuple[Label, ...]]  # by suite and phase, in the order of the items
    # Of utility suites, likewise; None where an answer could not be graded.
    values: dict[tuple[str, Phase], tuple[float | None, ...]]
    asked_steps: int  # the steps of training in its settings
    # Of a refusal, by suite and phase, likewise; absent or None where they are not known.
    log_odds: dict[tuple[str, Phase], tuple[float | None, ...]] = field(default_factory=dict)
    steps: tuple[Step, ...] = ()
    stopped: str | None = None  # why training ended; None if that is not known, or if nothing was trained
    withstood: Withstood = field(default_factory=dict)  # numbers of the robustness checks, where it went through any

    def asked(self, row: SuiteRow | UtilityRow) -> list[Item]:
        """The items behind a row; in a suite that mixes kinds, modalities or conditions, those of the row."""
        return [item for item in self.items[row.suite] if isinstance(row, UtilityRow) or _belongs(item, row)]

    def labels(self, row: SuiteRow) -> list[Label]:
        """The labels behind a row, in the order of the items."""
        pairs = zip(self.items[row.suite], self.verdicts[row.suite, row.phase], strict=True)
        return [label for item, label in pairs if _belongs(item, row)]

    def odds(self, row: SuiteRow) -> list[tuple[Item, float]]:
        """The items behind a row with their log-odds of a refusal; those without are left out."""
        known = self.log_odds.get((row.suite, row.phase)) or (None,) * len(self.items[row.suite])
        pairs = zip(self.items[row.suite], known, strict=True)
        return [(item, value) for item, value in pairs if value is not None and _belongs(item, row)]

    def graded(self, row: UtilityRow) -> list[tuple[Item, float]]:
        """The items behind a row with their values; those without a grade are left out."""
        pairs = zip(self.items[row.suite], self.values[row.suite, row.phase], strict=True)
        return [(item, value) for item, value in pairs if value is not None]

    def check(self) -> None:
        """Raise a `UserError` if the scores count other verdicts than these."""
        for row in self.scores.rows:
            counts = Counter(self.labels(row))
            if any(counts[label] != getattr(row, label.value) for label in Label):
                raise UserError(
                    f"{self.name}: suite '{row.suite}', {row.phase.value}: these are not the verdicts that its scores "
                    "count; rerun it"
                )


@dataclass(frozen=True, kw_only=True)
class FinishedRun(MeasuredRun):
    """A run directory with scores."""

    config: RunConfig

    def as_measured(self, phase: Phase) -> MeasuredRun:
        """The run without its settings, with the scores of one phase and only the cost of training.

        Such runs may be pooled even if their budgets differ.
        """
        scores = self.scores
        return MeasuredRun(
            name=self.name,
            seed=self.seed,
            alike=content_key(portable_settings(settings_but_seed(self.config, budgets=True))),
            scores=Scores(
                rows=tuple(row for row in scores.rows if row.phase is phase),
                utility=tuple(row for row in scores.utility if row.phase is phase),
                separation=tuple(row for row in scores.separation if row.phase is phase),
                cost=tuple(row for row in scores.cost if row.stage == TRAINING_STAGE),
                judge=scores.judge,
            ),
            environment={name: value for name, value in self.environment.items() if name in (*MADE_WITH, "commit")},
            items=self.items,
            verdicts={key: labels for key, labels in self.verdicts.items() if key[1] is phase},
            values={key: values for key, values in self.values.items() if key[1] is phase},
            asked_steps=self.asked_steps,
            log_odds={key: values for key, values in self.log_odds.items() if key[1] is phase},
            steps=self.steps,
            stopped=self.stopped,
            withstood=self.withstood if phase is Phase.AFTER else {},
        )


def public_name(model: str) -> str:
    """A model's name for others: of a checkpoint folder its name without the path."""
    path = Path(model).expanduser()
    return path.name if path.is_absolute() or path.is_dir() else model


def portable_settings(settings: dict[str, Any]) -> dict[str, Any]:
    """Settings without the paths of files, which differ between machines, and without what only watches.

    The content of the files has keys of its own.
    """
    data = settings.get("data", {})
    if data.get("examples") is not None:
        data = {**data, "examples": Path(data["examples"]).name}
    portable = {**settings, "model": public_name(settings.get("model", "")), "data": data}
    if "train" in settings:
        portable["train"] = {name: value for name, value in settings["train"].items() if name != "tracker"}
    return portable


def settings_but_seed(config: RunConfig, budgets: bool = False) -> dict[str, Any]:
    """The settings that pooled runs have in common.

    `budgets` leaves out `train.max_tokens` and `train.max_seconds` too, since a run may have been given the budget that
    another run of its seed used.
    """
    train = {"seed", "tracker"} | ({"max_tokens", "max_seconds"} if budgets else set())
    return config.model_dump(exclude={"seed": True, "train": train})


def read_run(folder: Path) -> FinishedRun:
    """Read the results of a finished run; a `UserError` names the file that is missing or malformed."""
    environment = read_json(folder / "environment.json")
    if not isinstance(environment, dict):
        raise UserError(f"{folder / 'environment.json'}: expected an object")
    scores = read_scores(folder / "scores.json")
    rows: list[SuiteRow | UtilityRow] = [*scores.rows, *scores.utility]
    prompts = {row.suite: read_rows(folder / "suites" / f"{row.suite}.jsonl", Prompt) for row in rows}
    result = folder / "train" / "result.json"
    config = read_run_config(folder)
    run = FinishedRun(
        name=str(folder),
        seed=config.seed,
        alike=content_key(settings_but_seed(config)),
        config=config,
        scores=scores,
        environment=environment,
        items={name: tuple(map(_item, suite)) for name, suite in prompts.items()},
        verdicts={
            (suite, phase): _verdicts(folder, scores.judge.name, suite, phase, prompts[suite])
            for suite, phase in dict.fromkeys((row.suite, row.phase) for row in scores.rows)
        },
        values={
            (row.suite, row.phase): _values(folder, row.suite, row.phase, prompts[row.suite]) for row in scores.utility
        },
        asked_steps=config.train.steps,
        log_odds={
            (suite, phase): found
            for suite, phase in dict.fromkeys((row.suite, row.phase) for row in scores.rows)
            if any(found := _log_odds(folder, suite, phase, prompts[suite]))
        },
        steps=_steps(folder / "train" / "metrics.jsonl"),
        stopped=str(read_json(result).get("stopped")) if result.exists() else None,
        withstood=withstood(read_in_short(folder)),
    )
    run.check()
    return run


def _belongs(item: Item, row: SuiteRow) -> bool:
    return (item.kind, item.modality, item.condition) == (row.kind, row.modality, row.condition)


def _item(prompt: Prompt) -> Item:
    return Item(**prompt.model_dump(include=set(Item.model_fields)))


def _verdicts(folder: Path, judge: str, suite: str, phase: Phase, prompts: Sequence[Prompt]) -> tuple[Label, ...]:
    rows = read_rows(folder / "verdicts" / judge / f"{suite}.{phase.value}.jsonl", Verdict)
    found = by_id(prompts, rows, suite, f"verdicts {phase.value}")
    return tuple(found[prompt.id].label for prompt in prompts)


def _log_odds(folder: Path, suite: str, phase: Phase, prompts: Sequence[Prompt]) -> tuple[float | None, ...]:
    path = folder / "responses" / f"{suite}.{phase.value}.jsonl"
    if not path.exists():
        return ()
    found = by_id(prompts, read_rows(path, Response), suite, f"responses {phase.value}")
    return tuple(found[prompt.id].refusal_log_odds for prompt in prompts)


def _values(folder: Path, suite: str, phase: Phase, prompts: Sequence[Prompt]) -> tuple[float | None, ...]:
    found = by_id(prompts, read_rows(folder / "values" / f"{suite}.{phase.value}.jsonl", Value), suite, "values")
    return tuple(found[prompt.id].value for prompt in prompts)


def _steps(metrics: Path) -> tuple[Step, ...]:
    rows = read_metrics(metrics)
    try:
        return tuple(
            Step(step=row["step"], tokens=row["tokens"] + row.get("image_tokens", 0), seconds=row["seconds"])
            for row in rows
        )
    except (KeyError, TypeError, ValidationError):
        raise UserError(f"{metrics}: expected step, tokens and seconds in every row") from None
