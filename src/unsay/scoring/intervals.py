"""Intervals of a rate and of a mean."""

import math
from collections.abc import Sequence

import numpy as np
from scipy.stats import norm

from unsay.scoring.bootstrap import clustered_mean
from unsay.scoring.schema import Interval, Method
from unsay.scoring.wilson import CONFIDENCE, wilson


def independent(rate: float, low: float, high: float) -> float:
    """How many independent answers would give a rate an interval as wide as this: its n, were it Wilson's.

    With z = 1.96, Wilson's half width h solves h² (1 + z²/n)² = z² (p(1 - p)/n + z²/4n²), a quadratic in 1/n.

    Args:
        rate: p.
        low: of its 95 % interval, however that was made.
        high: of the same.
    """
    z2 = float(norm.ppf((1 + CONFIDENCE) / 2)) ** 2
    h2 = ((high - low) / 2) ** 2
    if h2 <= 0:
        return math.inf
    # z² (h² z² - z²/4) x² + z² (2 h² - p(1 - p)) x + h² = 0 with x = 1/n; the smallest positive root is the answer.
    a, b, c = z2 * z2 * (h2 - 0.25), z2 * (2 * h2 - rate * (1 - rate)), h2
    roots = [x.real for x in np.roots([a, b, c]) if abs(x.imag) < 1e-12 and x.real > 0]
    return 1 / min(roots) if roots else 1.0


def rate_interval(outcomes: Sequence[bool], groups: Sequence[str], *, seed: int = 0) -> tuple[Interval | None, Method]:
    """95 % interval of a rate, and how it was made: Wilson's where no request stands twice, else a bootstrap over them.

    Where all answers are alike, a bootstrap would shrink to a point; then it is Wilson's, each request counted once.
    With few requests it is never shorter than that one (see `clustered_mean`).

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
        None when there are no values, or when they are no shares and of a single cluster, which says nothing of others.
    """
    if not values:
        return None
    clusters = list(groups) if groups is not None else [str(index) for index in range(len(values))]
    alone = len(set(clusters)) == len(clusters)
    if alone and all(value in (0, 1) for value in values):
        return wilson(int(np.sum(values)), len(values))
    if len(set(clusters)) == 1 and not all(0 <= value <= 1 for value in values):
        return None
    return clustered_mean(values, clusters, seed=seed).interval
