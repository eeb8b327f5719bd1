"""What a number of answers could have shown at all, when another model is measured on as many."""

from functools import cache

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import binom, hypergeom

from unsay.scoring.paired import ALPHA, POWER

SMALL = 100
"""Answers up to which the smallest detectable difference is computed, exactly, and shown."""
Array = NDArray[np.float64]


@cache
def fisher_p(n: int) -> Array:
    """Two-sided p of Fisher's exact test for every pair of counts out of n and n. Shape (n + 1, n + 1).

    Two-sided as usual: the probability of all tables with the same margins that are no likelier than the observed one.
    """
    p_values = np.ones((n + 1, n + 1))
    for total in range(2 * n + 1):
        first = np.arange(max(0, total - n), min(n, total) + 1)
        chance = hypergeom.pmf(first, 2 * n, n, total)
        for count, own in zip(first, chance, strict=True):
            p_values[count, total - count] = chance[chance <= own * (1 + 1e-7)].sum()
    return p_values


def power(n: int, first: float, second: float, alpha: float = ALPHA) -> float:
    """The chance that Fisher's test finds p < alpha between two rates, each measured on n answers; exact."""
    counts = np.arange(n + 1)
    chances = np.outer(binom.pmf(counts, n, first), binom.pmf(counts, n, second))
    return float(chances[fisher_p(n) < alpha].sum())


def detectable_difference(n: int, rate: float, rise: bool, wanted: float = POWER) -> float | None:
    """The smallest change from `rate` that a second model, measured on n other answers, would show with 80 % power.

    Args:
        n: answers of each model.
        rate: the first model's, taken as its true one.
        rise: whether the change is upwards.
        wanted: the power.

    Returns:
        None where n is above `SMALL`, or where not even the largest possible change would show.
    """
    largest = 1.0 - rate if rise else rate
    if not 0 < n <= SMALL or largest <= 0:
        return None
    sign = 1.0 if rise else -1.0

    def lacking(change: float) -> float:
        return power(n, rate, min(1.0, max(0.0, rate + sign * change))) - wanted

    return float(brentq(lacking, 0.0, largest)) if lacking(largest) >= 0 else None
