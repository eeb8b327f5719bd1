"""Runs that differ in their seed alone, pooled: counts added up, intervals over requests and seeds."""

from collections.abc import Sequence

from unsay.errors import UserError
from unsay.records import Kind, Label
from unsay.run.finished import VERSIONS, MeasuredRun
from unsay.scoring import SuiteRow, UtilityRow
from unsay.scoring.rates import OUTCOME
from unsay.statistics import clustered_mean
from unsay.suites import find_suite


def pool_rows(runs: Sequence[MeasuredRun]) -> tuple[tuple[SuiteRow, ...], tuple[UtilityRow, ...]]:
    """The pooled suite rows and utility rows of at least one run; a single run keeps its own intervals.

    Raises:
        UserError: the runs differ in more than the seed, or two have the same seed.
    """
    runs = sorted(runs, key=lambda run: run.seed)
    _check_alike(runs)
    scores = runs[0].scores
    if len(runs) == 1:
        return scores.rows, scores.utility
    return (
        tuple(_pooled_suite(runs, index) for index in range(len(scores.rows))),
        tuple(_pooled_utility(runs, index) for index in range(len(scores.utility))),
    )


def is_mean(name: str) -> bool:
    """Whether a utility suite's number is the plain mean of its items'."""
    suite = find_suite(name)
    return suite is None or (suite.grade is None and (suite.measure is None or suite.measure.total is None))


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
        if _suites_and_targets(run) != _suites_and_targets(first):
            raise UserError(f"{where}: their suites or targets differ")
        rows: list[SuiteRow | UtilityRow] = [*first.scores.rows, *first.scores.utility]
        for row in rows:
            if first.asked(row) != run.asked(row):
                raise UserError(f"{where}: their prompts in suite '{row.suite}' differ")


def _judge(run: MeasuredRun) -> object:
    """The judge without its measured accuracy, which needs label files that not every machine has."""
    return run.scores.judge.model_dump(include={"name", "key", "details", "reads_pictures"})


def _suites_and_targets(run: MeasuredRun) -> object:
    return (
        [(row.suite, row.kind, row.modality, row.condition, row.phase) for row in run.scores.rows],
        [(row.suite, row.phase) for row in run.scores.utility],
        [result.target for result in run.scores.targets],
    )


def _pooled_suite(runs: Sequence[MeasuredRun], index: int) -> SuiteRow:
    rows = [run.scores.rows[index] for run in runs]
    first = rows[0]
    judged = [
        (item.group, run.seed, label)
        for run, row in zip(runs, rows, strict=True)
        for item, label in zip(run.asked(row), run.labels(row), strict=True)
        if label is not Label.FAILED
    ]
    groups, seeds = [group for group, _, _ in judged], [seed for _, seed, _ in judged]
    happened = [float(label is OUTCOME[first.kind]) for *_, label in judged]
    coherent = [float(label in (Label.REFUSED, Label.SAFE)) for *_, label in judged]
    attacked = bool(judged) and first.kind is Kind.ATTACK
    return SuiteRow(
        **first.model_dump(include={"suite", "title", "kind", "modality", "condition", "phase", "unique", "texts"}),
        **{label.value: sum(getattr(row, label.value) for row in rows) for label in Label},
        n=sum(row.n for row in rows),
        rate=sum(happened) / len(judged) if judged else None,
        interval=clustered_mean(happened, groups, seeds).interval if judged else None,
        interval_method="bootstrap over requests and seeds",
        coherent_safety=sum(coherent) / len(judged) if attacked else None,
        coherent_interval=clustered_mean(coherent, groups, seeds).interval if attacked else None,
    )


def _pooled_utility(runs: Sequence[MeasuredRun], index: int) -> UtilityRow:
    rows = [run.scores.utility[index] for run in runs]
    first = rows[0]
    graded = [
        (item.group, run.seed, value) for run, row in zip(runs, rows, strict=True) for item, value in run.graded(row)
    ]
    interval = None
    if is_mean(first.suite):
        values = [value for *_, value in graded]
        if values:
            interval = clustered_mean(values, [group for group, *_ in graded], [seed for _, seed, _ in graded]).interval
    else:  # no mean of its items: averaged over the seeds, without an interval
        values = [row.value for row in rows if row.value is not None]
    return first.model_copy(
        update={
            "n": sum(row.n for row in rows),
            "failed": sum(row.failed for row in rows),
            "value": sum(values) / len(values) if values else None,
            "interval": interval,
            "parts": _mean_parts(rows),
        }
    )


def _mean_parts(rows: Sequence[UtilityRow]) -> dict[str, float]:
    """Means over the seeds of a suite's further numbers, where every seed has them."""
    names = [name for name in rows[0].parts if all(name in row.parts for row in rows)]
    return {name: sum(row.parts[name] for row in rows) / len(rows) for name in names}
