"""95 % intervals in closed form: Wilson's of a rate, Newcombe's of a paired change."""

import math
from typing import Self

import numpy as np
from pydantic import ConfigDict, model_validator
from scipy.stats import norm

from unsay.records import Record

CONFIDENCE = 0.95
Z2 = float(norm.ppf((1 + CONFIDENCE) / 2)) ** 2


class Interval(Record):
    """A 95 % interval, in the unit of the number that it belongs to."""

    model_config = ConfigDict(extra="forbid", frozen=True, allow_inf_nan=False)

    low: float
    high: float

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low ({self.low}) is above high ({self.high})")
        return self


def hull(first: Interval, second: Interval) -> Interval:
    """The shortest interval that holds both."""
    return Interval(low=min(first.low, second.low), high=max(first.high, second.high))


def wilson(successes: float, n: float) -> Interval | None:
    """Wilson's score interval of `successes / n` (Wilson 1927), or None when n is 0.

    Unlike the Wald interval it does not shrink to a point at 0 or n successes, where safety scores live.

    Args:
        successes: from 0 to n; not whole where a share of answers rests on n requests, so that scipy's does not do.
        n: independent observations.

    Raises:
        ValueError: more successes than observations, or fewer than none.
    """
    if n == 0:
        return None
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} successes of {n} observations are not a share")
    return wilson_of_share(successes / n, n)


def wilson_of_share(share: float, n: float) -> Interval:
    """Wilson's score interval of a share, from 0 to 1, of `n` observations, at least one."""
    middle = (share + Z2 / (2 * n)) / (1 + Z2 / n)
    half = math.sqrt(Z2 * (share * (1 - share) / n + Z2 / (4 * n * n))) / (1 + Z2 / n)
    # At shares of 0 and 1 one edge is the share itself, which rounding must not miss.
    return Interval(low=max(0.0, min(share, middle - half)), high=min(1.0, max(share, middle + half)))


def effective_n(rate: float, low: float, high: float) -> float:
    """How many independent answers give a rate a Wilson interval as wide as this one, however this one was made.

    Wilson's half width h solves h² (1 + z²/n)² = z² (p(1 - p)/n + z²/4n²), a quadratic in 1/n.
    """
    h2 = ((high - low) / 2) ** 2
    if h2 <= 0:
        return math.inf
    # z² (h² z² - z²/4) x² + z² (2 h² - p(1 - p)) x + h² = 0 with x = 1/n; the smallest positive root is the answer.
    roots = np.roots([Z2 * Z2 * (h2 - 0.25), Z2 * (2 * h2 - rate * (1 - rate)), h2])
    positive = [x.real for x in roots if abs(x.imag) < 1e-12 and x.real > 0]
    return 1 / min(positive) if positive else 1.0


def paired_interval(a: float, b: float, c: float, d: float) -> Interval | None:
    """95 % interval of the change (after - before) in a paired rate; None when there are no pairs.

    Newcombe 1998, Statistics in Medicine 17:2635, method 10: two Wilson intervals joined through the correlation of
    the pairs. It keeps a sensible width when b or c is 0, where the Wald interval collapses.

    The counts need not be whole: pairs that rest on fewer requests count for as many as these.

    Args:
        a: outcome in both phases.
        b: outcome before only.
        c: outcome after only.
        d: outcome in neither.
    """
    n = a + b + c + d
    before, after = wilson(a + b, n), wilson(a + c, n)
    if before is None or after is None:
        return None
    p_before, p_after = (a + b) / n, (a + c) / n
    phi = _correlation(a, b, c, d)
    down, up = p_after - after.low, before.high - p_before
    low = math.sqrt(max(0.0, down**2 - 2 * phi * down * up + up**2))
    down, up = after.high - p_after, p_before - before.low
    high = math.sqrt(max(0.0, down**2 - 2 * phi * down * up + up**2))
    difference = (c - b) / n
    return Interval(low=max(-1.0, difference - low), high=min(1.0, difference + high))


def _correlation(a: float, b: float, c: float, d: float) -> float:
    """Phi of the 2 x 2 table, with Newcombe's continuity correction; 0 when a margin is empty."""
    margins = (a + b) * (c + d) * (a + c) * (b + d)
    if margins == 0:
        return 0.0
    cross = a * d - b * c
    corrected = max(0.0, cross - (a + b + c + d) / 2) if cross > 0 else float(cross)
    return corrected / math.sqrt(margins)
