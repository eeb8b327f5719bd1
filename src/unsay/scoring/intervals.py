"""Intervals of a rate and of a mean."""

from collections.abc import Sequence

import numpy as np
from scipy.stats import binomtest

from unsay.scoring.bootstrap import clustered_mean
from unsay.scoring.schema import Interval, Method

CONFIDENCE = 0.95


def wilson(successes: int, n: int, confidence: float = CONFIDENCE) -> Interval | None:
    """Wilson's score interval of `successes / n` (Wilson 1927), or None when n is 0.

    Unlike the Wald interval it does not shrink to a point at 0 or n successes, where safety scores live.
    """
    if n == 0:
        return None
    found = binomtest(successes, n).proportion_ci(confidence_level=confidence, method="wilson")
    return Interval(low=max(0.0, float(found.low)), high=min(1.0, float(found.high)))


def rate_interval(outcomes: Sequence[bool], groups: Sequence[str], *, seed: int = 0) -> tuple[Interval | None, Method]:
    """95 % interval of a rate, and how it was made: Wilson's where no request stands twice, else a bootstrap over them.

    Where all answers are alike, a bootstrap would shrink to a point; then it is Wilson's, each request counted once.

    Args:
        outcomes: whether it happened, per answer.
        groups: the request of each answer.
        seed: of the bootstrap.
    """
    clusters = len(set(groups))
    happened = sum(outcomes)
    if clusters == len(groups):
        return wilson(happened, len(outcomes)), "wilson"
    if happened in (0, len(outcomes)):
        return wilson(clusters if happened else 0, clusters), "wilson"
    return clustered_mean([float(row) for row in outcomes], groups, seed=seed).interval, "clustered bootstrap"


def mean_interval(values: Sequence[float], groups: Sequence[str] | None = None, *, seed: int = 0) -> Interval | None:
    """95 % interval of a mean: Wilson's when every value is 0 or 1 and stands alone, else a clustered bootstrap.

    Args:
        values: one number per item.
        groups: the cluster of each item; None when every item stands alone.
        seed: of the bootstrap.

    Returns:
        None when there are no values.
    """
    if not values:
        return None
    clusters = list(groups) if groups is not None else [str(index) for index in range(len(values))]
    alone = len(set(clusters)) == len(clusters)
    if alone and all(value in (0, 1) for value in values):
        return wilson(int(np.sum(values)), len(values))
    return clustered_mean(values, clusters, seed=seed).interval
