"""What the training of an arm took, and how many times what the reference of the same rule took."""

from collections.abc import Sequence

from unsay.pipeline.finished import MeasuredRun
from unsay.study.schema import ArmRow, Cost


def mean_cost(runs: Sequence[MeasuredRun]) -> Cost:
    """Means over at least one run; of peak memory the largest."""
    rows = [row for run in runs for row in run.scores.cost]
    steps = [len(run.steps) for run in runs]
    return Cost(
        steps=sum(steps) / len(steps),
        tokens=sum(row.text_tokens for row in rows) / len(rows),
        image_tokens=sum(row.image_tokens for row in rows) / len(rows),
        flops=sum(row.flops for row in rows) / len(rows),
        seconds=sum(row.seconds for row in rows) / len(rows),
        peak_memory_bytes=max(row.peak_memory_bytes for row in rows),
    )


def relative(rows: Sequence[ArmRow], reference: str) -> list[ArmRow]:
    """The trained arms of one model, their costs with `ratios` to the reference under the same rule.

    A reference whose budget is a number, or what it used half-way, is trained for each rule anew, so each rule has a
    cost of its own. Where the reference failed there is nothing to divide by.
    """
    costs = {rule: row.cost for row in rows if row.arm == reference and row.cost is not None for rule in row.rules}
    return [_with_ratios(row, next((costs[rule] for rule in row.rules if rule in costs), None)) for row in rows]


def _with_ratios(row: ArmRow, reference: Cost | None) -> ArmRow:
    if row.cost is None or reference is None:
        return row
    mine, theirs = _totals(row.cost), _totals(reference)
    ratios = {name: mine[name] / theirs[name] for name in mine if theirs[name] > 0}
    return row.model_copy(update={"cost": row.cost.model_copy(update={"ratios": ratios})})


def _totals(cost: Cost) -> dict[str, float]:
    return {
        "tokens": cost.tokens + cost.image_tokens,
        "flops": cost.flops,
        "seconds": cost.seconds,
        "memory": float(cost.peak_memory_bytes),
    }
