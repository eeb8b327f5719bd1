"""Pool the runs of one experiment that differ in their seed alone.

    python -m unsay.run.pool runs/demo runs/demo-1 runs/demo-2 --json docs/results/demo.json --readme README.md

writes the pooled numbers as a small JSON file, and as tables between the markers of a page.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from unsay.config import RunConfig
from unsay.errors import UserError
from unsay.files import read_text, write_json, write_text
from unsay.presets import preset
from unsay.records import Kind, Label
from unsay.report.pooled import (
    PooledSuite,
    PooledTarget,
    PooledUtility,
    Results,
    SeedCost,
    SeedCounts,
    SeedTransfer,
    markdown,
    replace_results,
)
from unsay.run.cautions import evaluation_cautions
from unsay.run.finished import (
    MADE_WITH,
    TRAINING_STAGE,
    VERSIONS,
    FinishedRun,
    MeasuredRun,
    public_name,
    read_run,
    settings_but_seed,
)
from unsay.scoring import Caution, SuiteRow, UtilityRow, check_targets
from unsay.scoring.cautions import cautions
from unsay.scoring.utility import OUTCOME
from unsay.statistics import clustered_mean
from unsay.suites import find_suite


def pool(runs: Sequence[FinishedRun]) -> Results:
    """Pool runs that differ in their seed alone.

    Counts are added up. With several seeds, intervals redraw requests and seeds (`clustered_mean`); with one, they are
    the run's own.

    Args:
        runs: at least one.

    Raises:
        UserError: the runs differ in more than the seed, or two have the same seed.
    """
    runs = sorted(runs, key=lambda run: run.seed)
    first = runs[0]
    rows, utility = pool_rows(runs)
    pooled_rows, pooled_utility = [row.pooled for row in rows], [row.pooled for row in utility]
    results = check_targets((result.target for result in first.scores.targets), pooled_rows, pooled_utility)
    return Results(
        command=_command(runs),
        model=public_name(first.config.model),
        method=first.config.method,
        seeds=tuple(run.seed for run in runs),
        environment={name: first.environment[name] for name in MADE_WITH if name in first.environment},
        commits=tuple(run.environment.get("commit") for run in runs),
        judge=first.scores.judge,
        rows=rows,
        utility=utility,
        targets=tuple(
            PooledTarget(pooled=result, seeds=tuple(run.scores.targets[index].met for run in runs))
            for index, result in enumerate(results)
        ),
        transfer=tuple(SeedTransfer(seed=run.seed, rows=run.scores.transfer) for run in runs),
        cost=tuple(_cost(run) for run in runs),
        warnings=_warnings(first, pooled_rows, pooled_utility),
    )


def _warnings(first: FinishedRun, rows: Sequence[SuiteRow], utility: Sequence[UtilityRow]) -> tuple[Caution, ...]:
    """That prompts repeat across seeds is in the intervals, so that only severe cautions remain true."""
    found = cautions(rows, [], [], first.scores.judge, utility)
    suites = (row.suite for row in rows)
    return tuple(c for c in (*found, *evaluation_cautions(suites, first.scores.asked, first.scores.judge)) if c.severe)


def pool_rows(runs: Sequence[MeasuredRun]) -> tuple[tuple[PooledSuite, ...], tuple[PooledUtility, ...]]:
    """The suites of runs that differ in their seed alone, counts added up, and their utility.

    Raises:
        UserError: the runs differ in more than the seed, or two have the same seed.
    """
    runs = sorted(runs, key=lambda run: run.seed)
    _check_alike(runs)
    scores = runs[0].scores
    return (
        tuple(_pooled_suite(runs, index) for index in range(len(scores.rows))),
        tuple(_pooled_utility(runs, index) for index in range(len(scores.utility))),
    )


def _check_alike(runs: Sequence[MeasuredRun]) -> None:
    seeds = [run.seed for run in runs]
    if len(set(seeds)) < len(seeds):
        raise UserError(f"the runs have the seeds {', '.join(map(str, seeds))}: each must have a seed of its own")
    first = runs[0]
    for run in runs[1:]:
        where = f"{run.name}: cannot be pooled with {first.name}"
        if run.alike != first.alike:
            raise UserError(f"{where}: their settings differ in more than the seed")
        for name in VERSIONS:
            if run.environment.get(name) != first.environment.get(name):
                raise UserError(f"{where}: they were made with different {name}")
        if _judge(run) != _judge(first):
            raise UserError(f"{where}: their judges differ")
        if _shape(run) != _shape(first):
            raise UserError(f"{where}: they were not asked the same suites and targets")
        every: list[SuiteRow | UtilityRow] = [*first.scores.rows, *first.scores.utility]
        for row in every:
            if first.asked(row) != run.asked(row):
                raise UserError(f"{where}: they were not asked the same prompts in suite '{row.suite}'")


def _judge(run: MeasuredRun) -> object:
    """Which judge it was; its agreement with people is a measurement of that judge, which not every machine has."""
    return run.scores.judge.model_dump(include={"name", "key", "details", "reads_pictures"})


def _shape(run: MeasuredRun) -> object:
    return (
        [(row.suite, row.kind, row.modality, row.condition, row.phase) for row in run.scores.rows],
        [(row.suite, row.phase) for row in run.scores.utility],
        [result.target for result in run.scores.targets],
    )


def _pooled_suite(runs: Sequence[MeasuredRun], index: int) -> PooledSuite:
    rows = [run.scores.rows[index] for run in runs]
    first = rows[0]
    total = {label.value: sum(getattr(row, label.value) for row in rows) for label in Label}
    pooled = first
    groups, seeds, labels = [], [], []
    for run, row in zip(runs, rows, strict=True):
        for item, label in zip(run.asked(row), run.labels(row), strict=True):
            if label is not Label.FAILED:
                groups.append(item.group)
                seeds.append(run.seed)
                labels.append(label)
    if len(runs) > 1:
        outcome = OUTCOME[first.kind]
        led = [float(label is outcome) for label in labels]
        coherent = [float(label in (Label.REFUSED, Label.SAFE)) for label in labels]
        attack = first.kind is Kind.ATTACK
        pooled = SuiteRow(
            **first.model_dump(include={"suite", "title", "kind", "modality", "condition", "phase", "unique", "texts"}),
            **total,
            n=sum(row.n for row in rows),
            rate=sum(led) / len(led) if led else None,
            interval=clustered_mean(led, groups, seeds).interval if led else None,
            interval_method="bootstrap over requests and seeds",
            coherent_safety=sum(coherent) / len(coherent) if attack and coherent else None,
            coherent_interval=clustered_mean(coherent, groups, seeds).interval if attack and coherent else None,
        )
    counts = tuple(
        SeedCounts(seed=run.seed, **{label.value: getattr(row, label.value) for label in Label})
        for run, row in zip(runs, rows, strict=True)
    )
    return PooledSuite(pooled=pooled, seeds=counts)


def _pooled_utility(runs: Sequence[MeasuredRun], index: int) -> PooledUtility:
    rows = [run.scores.utility[index] for run in runs]
    first = rows[0]
    pooled = first
    if len(runs) > 1:
        values, groups, seeds = [], [], []
        for run in runs:
            graded = run.graded(run.scores.utility[index])
            values += [value for _, value in graded]
            groups += [item.group for item, _ in graded]
            seeds += [run.seed] * len(graded)
        mean = is_mean(first.suite)
        known = [row.value for row in rows if row.value is not None]
        each = values if mean else known
        pooled = first.model_copy(
            update={
                "n": sum(row.n for row in rows),
                "failed": sum(row.failed for row in rows),
                "value": sum(each) / len(each) if each else None,
                # A number that is no mean of its items is averaged over the seeds, and gets no pooled interval.
                "interval": clustered_mean(values, groups, seeds).interval if mean and values else None,
                "parts": _mean_parts(rows),
            }
        )
    return PooledUtility(pooled=pooled, seeds=tuple(row.value for row in rows))


def _mean_parts(rows: Sequence[UtilityRow]) -> dict[str, float]:
    """Further numbers of a suite, as means over the seeds; those that a seed lacks are left out."""
    names = [name for name in rows[0].parts if all(name in row.parts for row in rows)]
    return {name: sum(row.parts[name] for row in rows) / len(rows) for name in names}


def is_mean(name: str) -> bool:
    """Whether a utility suite's number is the plain mean of its items'."""
    suite = find_suite(name)
    return suite is None or (suite.grade is None and (suite.measure is None or suite.measure.total is None))


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
    """How to make such runs: the demo if nothing but the seed was set, else a configuration of one's own."""
    config = runs[0].config
    seeds = ", ".join(str(run.seed) for run in runs)
    if "adapter" in runs[0].scores.settings:  # asked only; what was trained, and how, stands in another run
        names = ",".join(config.evaluation.suites)
        return (
            f"unsay evaluate --adapter DIR --suites {names} --limit {config.evaluation.limit or 'all'} --data-dir DIR"
        )
    if not _is_demo(config):
        return f"unsay unlearn --config FILE (seed: {seeds})"
    suites = {row.suite for row in runs[0].scores.rows}
    data = (
        " --data-dir DIR"
        if any((suite := find_suite(name)) is not None and suite.needs_data for name in suites)
        else ""
    )
    return f"unsay demo{data} --seed {seeds}"


def _is_demo(config: RunConfig) -> bool:
    """Whether nothing but the seed was set. The demo runs in the precision that is fastest where it runs."""
    demo = preset("demo")
    settings = demo.model_settings.model_copy(update={"dtype": config.model_settings.dtype})
    fastest = config.model_settings.dtype in ("float32", "bfloat16")
    return fastest and settings_but_seed(config) == settings_but_seed(
        demo.model_copy(update={"model_settings": settings})
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Pool, write and say where; returns the exit code (2 for runs that do not belong together)."""
    parser = argparse.ArgumentParser(prog="python -m unsay.run.pool", description="Pool runs over their seeds.")
    parser.add_argument("runs", nargs="+", type=Path, help="finished run directories, one for each seed")
    parser.add_argument("--json", required=True, type=Path, help="the file to write the pooled numbers to")
    parser.add_argument("--readme", type=Path, help="a page with the markers to write the tables between")
    options = parser.parse_args(arguments)
    try:
        results = pool([read_run(folder) for folder in options.runs])
        page = None
        if options.readme is not None:
            page = replace_results(read_text(options.readme), markdown(results), str(options.readme))
        write_json(options.json, results.model_dump(mode="json"))
        if page is not None:
            write_text(options.readme, page)
    except UserError as error:
        print(f"unsay: {error}", file=sys.stderr)
        return 2
    missed = sum(target.pooled.met is False for target in results.targets)
    seeds = ", ".join(map(str, results.seeds))
    print(f"{options.json}: seeds {seeds}; {len(results.targets)} targets, {missed} missed")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
