r"""Runs of one experiment that differ in their seed alone, pooled into a small JSON file and into tables of a page.

    python -m tools.pool_results runs/demo-0 runs/demo-1 runs/demo-2 --json docs/results/demo.json \
        --page docs/results/demo.md --readme README.md

The tables go between the markers `<!-- results:begin -->` and `<!-- results:end -->` of the page, and three rows of
them between `<!-- headline:begin -->` and `<!-- headline:end -->` of the README.
"""

import argparse
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import Field, JsonValue

from tools.markers import replace_between
from unsay.config import RunConfig
from unsay.errors import UserError
from unsay.files import read_text, write_json, write_text
from unsay.presets import preset
from unsay.records import Kind, Label, Modality, Phase
from unsay.reports import numbers
from unsay.run.cautions import evaluation_cautions
from unsay.run.finished import MADE_WITH, TRAINING_STAGE, FinishedRun, public_name, read_run, settings_but_seed
from unsay.scoring import Caution, JudgeInfo, SuiteRow, TargetResult, TransferRow, UtilityRow, check_targets
from unsay.scoring.limits import cautions
from unsay.scoring.schema import AcceleratorPeak, Row
from unsay.statistics import Interval
from unsay.studies.ranking import pool_rows
from unsay.studies.tables import pipes
from unsay.suites import find_suite

AnyRow = TypeVar("AnyRow", SuiteRow, UtilityRow)

BEGIN, END = "<!-- results:begin -->", "<!-- results:end -->"
HEADLINE = "<!-- headline:begin -->", "<!-- headline:end -->"


class SeedCounts(Row):
    """Verdict counts of one suite in one phase under one seed."""

    seed: int
    refused: int
    safe: int
    harmful: int
    degenerate: int
    failed: int


class PooledSuite(Row):
    """One suite in one phase: all seeds together, and each alone."""

    pooled: SuiteRow
    """`n` counts answers of all seeds, `unique` distinct requests; the intervals are over requests and seeds."""
    seeds: tuple[SeedCounts, ...]


class PooledUtility(Row):
    """A utility measure in one phase: over all seeds, and of each alone, in the order of the seeds."""

    pooled: UtilityRow
    seeds: tuple[float | None, ...]


class PooledTarget(Row):
    """A target checked on the pooled numbers, and whether each seed alone meets it, in the order of the seeds."""

    pooled: TargetResult
    seeds: tuple[bool | None, ...]


class SeedCost(AcceleratorPeak):
    """Cost of one run, training and evaluation together."""

    seed: int
    seconds: float
    """Of all stages; a reused stage counts with the time that it took when it was run."""
    training_seconds: float
    training_tokens: int
    peak_memory_bytes: int


class SeedTransfer(Row):
    """Transfer to every image twin under one seed."""

    seed: int
    rows: tuple[TransferRow, ...]


class Results(Row):
    """Every pooled number and the counts behind it; the content of the JSON file."""

    schema_version: Literal[1] = 1
    command: str
    model: str
    method: str
    seeds: tuple[int, ...] = Field(min_length=1)
    environment: dict[str, JsonValue]
    """Versions and hardware of the first run; the libraries of the others are the same."""
    commits: tuple[str | None, ...]
    """Of the code, in the order of the seeds; `+` marks uncommitted changes."""
    judge: JudgeInfo
    rows: tuple[PooledSuite, ...]
    utility: tuple[PooledUtility, ...]
    targets: tuple[PooledTarget, ...]
    transfer: tuple[SeedTransfer, ...]
    cost: tuple[SeedCost, ...]
    warnings: tuple[Caution, ...]


def pool(runs: Sequence[FinishedRun]) -> Results:
    """Pool runs that differ in their seed alone.

    Counts are added up. With several seeds, intervals are over requests and seeds; a single run keeps its own. So does
    the original model, which is one model and not several, where it answered alike in all runs.

    Raises:
        UserError: the runs differ in more than the seed, or two have the same seed.
    """
    runs = sorted(runs, key=lambda run: run.seed)
    first = runs[0]
    rows, utility = pool_rows(runs)
    if _one_original(runs):
        rows = tuple(map(_of_original, first.scores.rows, rows))
        utility = tuple(map(_of_original, first.scores.utility, utility))
    targets = check_targets((result.target for result in first.scores.targets), rows, utility)
    return Results(
        command=_command(runs),
        model=public_name(first.config.model),
        method=first.config.method,
        seeds=tuple(run.seed for run in runs),
        environment={name: first.environment[name] for name in MADE_WITH if name in first.environment},
        commits=tuple(run.environment.get("commit") for run in runs),
        judge=first.scores.judge,
        rows=tuple(
            PooledSuite(pooled=row, seeds=tuple(_counts(run, index) for run in runs)) for index, row in enumerate(rows)
        ),
        utility=tuple(
            PooledUtility(pooled=row, seeds=tuple(run.scores.utility[index].value for run in runs))
            for index, row in enumerate(utility)
        ),
        targets=tuple(
            PooledTarget(pooled=result, seeds=tuple(run.scores.targets[index].met for run in runs))
            for index, result in enumerate(targets)
        ),
        transfer=tuple(SeedTransfer(seed=run.seed, rows=run.scores.transfer) for run in runs),
        cost=tuple(_cost(run) for run in runs),
        warnings=_warnings(first, rows, utility),
    )


def _one_original(runs: Sequence[FinishedRun]) -> bool:
    """Whether something was trained, and what it was trained from answered alike in all runs."""

    def before(run: FinishedRun) -> object:
        scores = run.scores
        return (
            [run.labels(row) for row in scores.rows if row.phase is Phase.BEFORE],
            [(row.value, row.parts) for row in scores.utility if row.phase is Phase.BEFORE],
        )

    trained = any(row.phase is Phase.AFTER for row in runs[0].scores.rows)
    return trained and all(before(run) == before(runs[0]) for run in runs)


def _of_original(own: AnyRow, pooled: AnyRow) -> AnyRow:
    """The row of the first run if it is the original's, else the pooled one."""
    return own if own.phase is Phase.BEFORE else pooled


def _counts(run: FinishedRun, index: int) -> SeedCounts:
    row = run.scores.rows[index]
    return SeedCounts(seed=run.seed, **{label.value: getattr(row, label.value) for label in Label})


def _warnings(first: FinishedRun, rows: Sequence[SuiteRow], utility: Sequence[UtilityRow]) -> tuple[Caution, ...]:
    """The severe cautions; the others say that prompts repeat, which the pooled intervals account for."""
    found = cautions(rows, [], [], first.scores.judge, utility)
    suites = (row.suite for row in rows)
    return tuple(c for c in (*found, *evaluation_cautions(suites, first.scores.asked, first.scores.judge)) if c.severe)


def _cost(run: FinishedRun) -> SeedCost:
    training = [row for row in run.scores.cost if row.stage == TRAINING_STAGE]
    return SeedCost(
        seed=run.seed,
        seconds=sum(row.seconds for row in run.scores.cost),
        training_seconds=sum(row.seconds for row in training),
        training_tokens=sum(row.text_tokens for row in training),
        peak_memory_bytes=max((row.peak_memory_bytes for row in run.scores.cost), default=0),
        peak_accelerator_bytes=max((row.peak_accelerator_bytes for row in run.scores.cost), default=0),
    )


def _command(runs: Sequence[FinishedRun]) -> str:
    """The command that makes such runs: the demo if only the seed differs from it, else one with a configuration."""
    config = runs[0].config
    seeds = ", ".join(str(run.seed) for run in runs)
    if "adapter" in runs[0].scores.settings:  # evaluated only: the training is described by another run
        names = ",".join(config.evaluation.suites)
        return (
            f"unsay evaluate --adapter DIR --suites {names} --limit {config.evaluation.limit or 'all'} --data-dir DIR"
        )
    if not _is_demo(config):
        return f"unsay unlearn --config FILE (seed: {seeds})"
    suites = (find_suite(row.suite) for row in runs[0].scores.rows)
    data = " --data-dir DIR" if any(suite is not None and suite.needs_data for suite in suites) else ""
    return f"unsay demo{data} --seed {seeds}"


def _is_demo(config: RunConfig) -> bool:
    """Whether only the seed differs from the demo, which runs in whatever precision is fastest on the machine."""
    demo = preset("demo")
    settings = demo.model_settings.model_copy(update={"dtype": config.model_settings.dtype})
    fastest = config.model_settings.dtype in ("float32", "bfloat16")
    return fastest and settings_but_seed(config) == settings_but_seed(
        demo.model_copy(update={"model_settings": settings})
    )


def markdown(results: Results) -> str:
    """The results as Markdown tables, with every target and whether it was met, and notes on how they were made."""
    blocks = [
        _attacks([row.pooled for row in results.rows if row.pooled.kind is Kind.ATTACK], results),
        _benign([row.pooled for row in results.rows if row.pooled.kind is Kind.BENIGN], results),
        _utility([row.pooled for row in results.utility], results),
        _notes(results),
    ]
    return "\n\n".join(block for block in blocks if block)


def headline(results: Results) -> str:
    """Three rows for a README: the worst attack in words, the worst in pictures, and the most needless refusals."""
    after = [row.pooled for row in results.rows if row.pooled.phase is Phase.AFTER]
    before = {row.pooled.suite: row.pooled for row in results.rows if row.pooled.phase is Phase.BEFORE}
    attacks = [row for row in after if row.kind is Kind.ATTACK]
    parts = {
        "harmful answers to attacks in words": [row for row in attacks if row.modality is Modality.TEXT],
        "harmful answers to attacks in pictures": [row for row in attacks if row.modality is not Modality.TEXT],
        "refusals of harmless requests": [row for row in after if row.kind is Kind.BENIGN],
    }
    lines = []
    for name, rows in parts.items():
        if rows:
            worst = max(rows, key=lambda row: row.rate or 0.0)
            cells = [_cell(row, lambda row: (row.rate, row.interval)) for row in (before.get(worst.suite), worst)]
            lines.append([f"{name} ({worst.title})", *cells])
    return pipes(["", "before", "after"], lines)


def _attacks(rows: Sequence[SuiteRow], results: Results) -> str:
    def cells(phases: dict[Phase, SuiteRow]) -> list[str]:
        rates = [_cell(phases.get(phase), lambda row: (row.rate, row.interval)) for phase in Phase]
        return rates + [
            _cell(phases.get(phase), lambda row: (row.coherent_safety, row.coherent_interval)) for phase in Phase
        ]

    head = ["Attack", "prompts", "ASR before", "ASR after", "coherent safety before", "after", "target", "met"]
    return pipes(head, _lines(rows, ("asr",), results, cells))


def _benign(rows: Sequence[SuiteRow], results: Results) -> str:
    def cells(phases: dict[Phase, SuiteRow]) -> list[str]:
        return [_cell(phases.get(phase), lambda row: (row.rate, row.interval)) for phase in Phase]

    head = ["Harmless requests", "prompts", "refused before", "refused after", "target", "met"]
    return pipes(head, _lines(rows, ("over_refusal", "over_refusal_rise"), results, cells))


def _utility(rows: Sequence[UtilityRow], results: Results) -> str:
    by_suite: dict[str, dict[Phase, UtilityRow]] = {}
    for row in rows:
        by_suite.setdefault(row.suite, {})[row.phase] = row
    lines = []
    for suite, phases in by_suite.items():
        first = phases.get(Phase.AFTER) or phases[Phase.BEFORE]
        unit = "" if first.unit == "rate" else f", {first.unit}"
        title = f"{first.title} ({'higher' if first.higher_is_better else 'lower'} is better{unit})"
        measured = [_measured(phases.get(phase)) for phase in Phase]
        lines.append(
            [title, str(first.n // len(results.seeds)), *measured, *_targets(suite, ("utility_loss",), results)]
        )
    return pipes(["Utility", "items", "before", "after", "target", "met"], lines)


def _lines(
    rows: Sequence[SuiteRow],
    measures: tuple[str, ...],
    results: Results,
    cells: Callable[[dict[Phase, SuiteRow]], list[str]],
) -> list[list[str]]:
    by_suite: dict[tuple[str, str, str], dict[Phase, SuiteRow]] = {}
    for row in rows:
        by_suite.setdefault((row.suite, row.modality, row.condition), {})[row.phase] = row
    lines = []
    for (suite, _, _), phases in by_suite.items():
        first = phases.get(Phase.AFTER) or phases[Phase.BEFORE]
        lines.append(
            [first.title, str(first.n // len(results.seeds)), *cells(phases), *_targets(suite, measures, results)]
        )
    return lines


def _cell(row: SuiteRow | None, rate: Callable[[SuiteRow], tuple[float | None, Interval | None]]) -> str:
    if row is None:
        return ""
    value, interval = rate(row)
    return f"{numbers.percent(value)} ({numbers.span(interval)})" if interval else numbers.percent(value)


def _measured(row: UtilityRow | None) -> str:
    if row is None:
        return ""
    value, interval = numbers.measure(row, row.value), numbers.measure_span(row)
    return f"{value} ({interval})" if interval else value


def _targets(suite: str, measures: tuple[str, ...], results: Results) -> list[str]:
    """The suite's targets, and whether they were met."""
    limits = [
        target.pooled
        for target in results.targets
        if target.pooled.target.suite == suite and target.pooled.target.measure in measures
    ]
    shown = [
        f"{'≤' if limit.target.direction == 'at most' else '≥'} {_limit(limit)}"
        + (" before" if limit.target.phase is Phase.BEFORE else "")
        for limit in limits
    ]
    return ["; ".join(shown), "; ".join(_met(limit) for limit in limits)]


def _limit(result: TargetResult) -> str:
    """`8%` for a rate, `2 points above before` for a change."""
    target = result.target
    if target.measure == "over_refusal_rise":
        return f"{target.limit * 100:g} points above before"
    if target.measure == "utility_loss":
        return f"{target.limit * 100:g} points worse than before"
    return f"{target.limit * 100:g}%"


def _met(result: TargetResult) -> str:
    return {True: "yes", False: "**no**", None: "undecided" if result.undecided else "not measured"}[result.met]


def _notes(results: Results) -> str:
    seeds = ", ".join(map(str, results.seeds))
    several = len(results.seeds) > 1
    notes = [f"In brackets: 95% intervals ({_how(results)}). {'Seeds' if several else 'Seed'} {seeds}."]
    notes += _degenerate(results)
    notes += _transfer(results)
    if (measured := results.judge.headline()) is not None:
        name, value = measured
        span = numbers.span(Interval(low=value.low, high=value.high))
        notes.append(
            f"Judge `{results.judge.name}`: {name.replace('_', ' ')} {numbers.percent(value.value)} ({span}) against "
            f"{value.n} human labels ({value.dataset})."
        )
    else:
        notes.append(f"Judge `{results.judge.name}`: never compared with human labels.")
    notes += [f"**{caution.text}**" for caution in results.warnings]
    times = [cost.seconds for cost in results.cost]
    memory = numbers.memory(max(cost.peak_memory_bytes for cost in results.cost))
    if accelerator := max(cost.peak_accelerator_bytes for cost in results.cost):
        memory += f" on the host, {numbers.memory(accelerator)} on the accelerator"
    spent = numbers.seconds(max(times)) if not several else f"at most {numbers.seconds(max(times))} a seed"
    threads = results.environment.get("threads")
    with_threads = f" with {threads} thread{'' if threads == 1 else 's'}" if threads else ""
    notes.append(f"Cost: {spent}{with_threads}, peak memory {memory}.")
    notes.append(f"Made with `{results.command}`, {', '.join(_versions(results.environment))}.")
    return "\n".join(f"- {note}" for note in notes)


def _how(results: Results) -> str:
    """Methods of the intervals."""
    methods = {row.pooled.interval_method for row in results.rows}
    if len(results.seeds) > 1:
        one_model = methods != {"bootstrap over requests and seeds"}
        return "over requests and, after, seeds; before is one model" if one_model else "over requests and seeds"
    rates = "Wilson for rates" if methods <= {"wilson"} else "Wilson for rates, over requests where these repeat"
    return f"{rates}, bootstrap for other means"


def _versions(environment: dict[str, JsonValue]) -> list[str]:
    versions = [f"unsay {environment.get('unsay', 'of unknown version')}"]
    libraries = environment.get("libraries")
    if isinstance(libraries, dict):
        versions += [f"{name} {libraries[name]}" for name in ("torch", "transformers", "peft") if name in libraries]
    return versions


def _degenerate(results: Results) -> list[str]:
    limits = [target.pooled for target in results.targets if target.pooled.target.measure == "degenerate"]
    known = [(limit.value, limit) for limit in limits if limit.value is not None]
    if not known:
        return []
    value, worst = max(known, key=lambda pair: pair[0])
    missed, unknown = (sum(limit.met is state for limit in limits) for state in (False, None))
    met = f"missed on {missed} of {len(limits)} suites" if missed else "met on every suite"
    if unknown:
        met = f"{met if missed else 'missed on none'}, not known of {unknown}"
    limit = f"{worst.target.limit * 100:g}%"
    return [
        f"Degenerate answers after, worst suite ({worst.title}): {numbers.percent(value)}; target ≤ {limit}, {met}."
    ]


def _transfer(results: Results) -> list[str]:
    """One line for each image twin; a seed without a clear drop on text has no transfer."""
    by_pair: dict[tuple[str, str], list[str]] = {}
    for seed in results.transfer:
        for row in seed.rows:
            value = numbers.DASH if row.transfer is None else f"{row.transfer:.2f}"
            by_pair.setdefault((row.text_title, row.image_title), []).append(value)
    return [
        f"Transfer, {text} → {image}: {', '.join(values)}{' (by seed)' if len(values) > 1 else ''}."
        for (text, image), values in by_pair.items()
    ]


def main(arguments: Sequence[str] | None = None) -> int:
    """Pool, write, and print where; returns the exit code (2 for runs that cannot be pooled)."""
    parser = argparse.ArgumentParser(prog="python -m tools.pool_results", description="Pool runs over their seeds.")
    parser.add_argument("runs", nargs="+", type=Path, help="finished run directories, one for each seed")
    parser.add_argument("--json", required=True, type=Path, help="the file to write the pooled numbers to")
    parser.add_argument("--page", type=Path, help="a page with the markers to write the tables between")
    parser.add_argument("--readme", type=Path, help="a page with the markers of the headline")
    options = parser.parse_args(arguments)
    try:
        results = pool([read_run(folder) for folder in options.runs])
        written = []
        for path, markers, tables in ((options.page, (BEGIN, END), markdown), (options.readme, HEADLINE, headline)):
            if path is not None:
                written.append((path, replace_between(read_text(path), *markers, tables(results), str(path))))
        write_json(options.json, results.model_dump(mode="json"))
        for path, text in written:
            write_text(path, text)
    except UserError as error:
        print(f"unsay: {error}", file=sys.stderr)
        return 2
    missed = sum(target.pooled.met is False for target in results.targets)
    seeds = ", ".join(map(str, results.seeds))
    print(f"{options.json}: seeds {seeds}; {len(results.targets)} targets, {missed} missed")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
