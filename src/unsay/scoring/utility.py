"""Utility suites: the number of one phase, and its change over the items of both."""

from collections.abc import Callable, Mapping, Sequence

from unsay.errors import UserError
from unsay.records import Phase
from unsay.scoring.schema import UtilityChange, UtilityRow
from unsay.scoring.subsets import plain_title
from unsay.statistics import (
    Interval,
    clustered_change,
    clustered_total,
    hull,
    mcnemar,
    mean_interval,
    paired_interval,
    resampled_mean,
    sign_flip,
    wilson,
    wilson_of_share,
)
from unsay.statistics.intervals import FEW


def score_utility(
    suite: str,
    phase: Phase,
    values: Sequence[float | None],
    *,
    title: str | None = None,
    groups: Sequence[str] | None = None,
    weights: Sequence[float] | None = None,
    unit: str = "rate",
    higher_is_better: bool = True,
    total: Callable[[Sequence[int]], float] | None = None,
    strata: Sequence[str] | None = None,
    parts: Mapping[str, float] | None = None,
    seed: int = 0,
) -> UtilityRow:
    """The number of a utility suite in one phase, with its interval; None where no item has a value.

    A mean of the items, with Wilson's interval for right/wrong values and a bootstrap's for others, unless `total`
    computes another number.

    Args:
        suite: its name.
        phase: which model answered.
        values: one number per item, in `unit`; None where there is none.
        title: for people.
        groups: the cluster of each item, when items are not independent.
        weights: of each item in the mean; None for equal ones.
        unit: `rate` for a fraction (shown in per cent), else the text beside the number.
        higher_is_better: False for error rates and losses.
        total: indices of items → the suite's number, where that is not a mean.
        strata: the part of that number that each item belongs to, where it is put together from parts.
        parts: further numbers of the suite, by name.
        seed: of the bootstrap.
    """
    if not values:
        raise UserError(f"suite {suite!r}: nothing was measured ({phase}); a utility suite needs at least one item")
    known = [index for index, value in enumerate(values) if value is not None]
    numbers = [value for value in values if value is not None]
    clusters = [groups[index] for index in known] if groups is not None else [str(index) for index in known]
    if known and total is None and weights is not None and len(set(weights)) > 1:
        total = weighted_mean(values, weights)
    value: float | None = None
    interval: Interval | None = None
    if not known:
        parts = None
    elif total is None:
        value = sum(numbers) / len(numbers)
        interval = mean_interval(numbers, clusters, shares=unit == "rate", seed=seed)
    else:
        of_known = strata and [strata[index] for index in known]
        value, interval = total(known), clustered_total(total, known, clusters, of_known, seed=seed)
    return UtilityRow(
        suite=suite,
        title=title or plain_title(suite),
        phase=phase,
        n=len(values),
        value=value,
        interval=interval,
        unit=unit,
        higher_is_better=higher_is_better,
        unique=len(set(clusters)),
        failed=len(values) - len(known),
        parts=dict(parts or {}),
    )


def weighted_mean(values: Sequence[float | None], weights: Sequence[float]) -> Callable[[Sequence[int]], float]:
    """Indices of items → Σ weight · value ÷ Σ weight."""

    def mean(indices: Sequence[int]) -> float:
        chosen = [(weights[index], values[index] or 0.0) for index in indices]
        return sum(weight * value for weight, value in chosen) / sum(weight for weight, _ in chosen)

    return mean


def compare_utility(
    suite: str,
    before: Sequence[float | None],
    after: Sequence[float | None],
    *,
    title: str | None = None,
    groups: Sequence[str] | None = None,
    unit: str = "rate",
    higher_is_better: bool = True,
    total: Callable[[Sequence[int], Phase], float] | None = None,
    strata: Sequence[str] | None = None,
    seed: int = 0,
) -> UtilityChange:
    """The change of a utility suite's number over the items that were measured in both phases.

    Independent items that are right or wrong are tested by McNemar's test; others, and clusters, by flipping signs
    of the items' changes. Where the suite's number is not a mean of its items, its difference and interval are of that
    number, and the test is still of the items.

    The arguments are those of `score_utility`; `total` is given the phase, too.
    """
    pairs = [(i, b, a) for i, (b, a) in enumerate(zip(before, after, strict=True)) if b is not None and a is not None]
    items = [index for index, _, _ in pairs]
    clusters = [groups[index] if groups is not None else str(index) for index in items]
    changes = [a - b for _, b, a in pairs]
    binary = total is None and all(value in (0, 1) for _, *both in pairs for value in both)
    independent = len(set(clusters)) == len(clusters)
    difference = sum(changes) / len(changes) if changes else None
    interval: Interval | None = None
    p, test = 1.0, "mcnemar" if binary and independent else "sign flip" if independent else "sign flip over clusters"
    if changes and binary:
        had, has = [b == 1 for _, b, _ in pairs], [a == 1 for _, _, a in pairs]
        if independent:
            b, c = changes.count(-1), changes.count(1)
            both = sum(x and y for x, y in zip(had, has, strict=True))
            interval, p = paired_interval(both, b, c, len(changes) - both - b - c), mcnemar(b, c)
        else:
            interval, p = clustered_change(had, has, clusters, seed=seed)
    elif changes:
        p = sign_flip(changes, clusters, seed=seed)
        if total is None:
            interval = _mean_change_interval(changes, clusters, unit == "rate", seed)
        else:
            number = total  # known not to be None in what follows

            def change(indices: Sequence[int]) -> float:
                return number(indices, Phase.AFTER) - number(indices, Phase.BEFORE)

            of_items = strata and [strata[index] for index in items]
            difference, interval = change(items), clustered_total(change, items, clusters, of_items, seed=seed)
    return UtilityChange(
        suite=suite,
        title=title or plain_title(suite),
        unit=unit,
        higher_is_better=higher_is_better,
        n=len(items),
        unique=len(set(clusters)),
        dropped=len(before) - len(items),
        difference=difference,
        interval=interval,
        p=p,
        test=test,
    )


def _mean_change_interval(changes: Sequence[float], clusters: Sequence[str], rate: bool, seed: int) -> Interval | None:
    """Bootstrap of the mean change; where that shrinks, what is known of changes from −1 to 1, or None without such."""
    n = len(set(clusters))
    interval = resampled_mean(changes, clusters, seed=seed).interval
    differ = min(changes) < max(changes)
    if n >= FEW and differ:
        return interval
    if not rate:
        return interval if n > 1 and differ else None
    # So many clusters did not change: up to this share of others may, by at most 1 each.
    unchanged = wilson_of_share(0.0, n).high
    interval = hull(interval, Interval(low=-unchanged, high=unchanged))
    if n < FEW:
        share = min(1.0, max(0.0, (sum(changes) / len(changes) + 1) / 2))
        shifted = wilson(share * n, n)
        assert shifted is not None, "there is at least one cluster"
        interval = hull(interval, Interval(low=2 * shifted.low - 1, high=2 * shifted.high - 1))
    return interval
