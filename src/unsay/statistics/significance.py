"""Exact paired tests, Holm's correction, and what a number of answers could show at all."""

from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from itertools import product

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import brentq
from scipy.stats import binom, binomtest, hypergeom

ALPHA = 0.05
POWER = 0.80
FLIPS = 20_000
"""Random sign flips where sums are not whole numbers; up to as many patterns of signs are enumerated."""
SIGN_BLOCK = 2**22
"""Random signs held in memory at once."""
LARGEST_EXACT_SUM = 5_000
"""Largest sum of whole numbers for which the distribution over all sign flips is computed."""
LARGEST_POWER_N = 100
"""Most answers for which the smallest detectable difference is computed."""

Array = NDArray[np.float64]


def mcnemar(b: int, c: int) -> float:
    """Two-sided p of McNemar's exact test on `b` and `c` discordant pairs; 1 when nothing changed."""
    return float(binomtest(b, b + c, 0.5).pvalue) if b + c else 1.0


def sign_flip(differences: Sequence[float], groups: Sequence[str], *, flips: int = FLIPS, seed: int = 0) -> float:
    """Two-sided p of no difference, by flipping the signs of whole requests.

    If two models are alike, a request's difference is as likely to point one way as the other. Sums over all answers to
    a request (its suites, pictures and seeds) are flipped, because these answers rise and fall together. With one
    answer per request and outcomes 0 and 1 this is McNemar's exact test. Whole numbers are tested exactly, and so are
    others of few requests; the rest is flipped at random (`flips` times, so p is at least 1 ÷ (flips + 1)), and the p
    is then that of Phipson and Smyth 2010 (doi 10.2202/1544-6115.1585), never 0.
    """
    by_group: defaultdict[str, float] = defaultdict(float)
    for value, group in zip(differences, groups, strict=True):
        by_group[group] += value
    sums = [value for value in by_group.values() if value != 0]
    if not sums:
        return 1.0
    if all(float(value).is_integer() for value in sums) and sum(map(abs, sums)) <= LARGEST_EXACT_SUM:
        return _exact_sign_flip([round(abs(value)) for value in sums], abs(round(sum(sums))))
    sizes = np.asarray(sums)
    if 2 ** len(sizes) <= flips:
        every = np.array(list(product((-1.0, 1.0), repeat=len(sizes))))
        return float(np.mean(_as_extreme(every @ sizes, sizes)))
    generator, block, extreme = np.random.default_rng(seed), max(1, SIGN_BLOCK // len(sizes)), 0
    for start in range(0, flips, block):
        signs = generator.choice((-1.0, 1.0), size=(min(block, flips - start), len(sizes)))
        extreme += int(np.count_nonzero(_as_extreme(signs @ sizes, sizes)))
    return (1 + extreme) / (1 + flips)


def _as_extreme(sums: Array, sizes: Array) -> NDArray[np.bool_]:
    """Which sums are at least as far from 0 as that of the sizes, up to rounding."""
    extreme: NDArray[np.bool_] = np.abs(sums) >= abs(sizes.sum()) - 1e-9 * np.abs(sizes).sum()
    return extreme


def _exact_sign_flip(sizes: Sequence[int], observed: int) -> float:
    """Probability that Σ ±size is at least as far from 0 as observed, all signs being equally likely."""
    total = sum(sizes)
    chance = np.zeros(2 * total + 1)
    chance[total] = 1.0
    for size in sizes:
        chance = (np.roll(chance, size) + np.roll(chance, -size)) / 2  # the ends are still 0: nothing wraps around
    distance = np.abs(np.arange(-total, total + 1))
    return min(1.0, float(chance[distance >= observed].sum()))


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p, in the order given (Holm 1979, Scandinavian Journal of Statistics 6:65).

    The k-th smallest of m is multiplied by m − k + 1, never falls below an earlier one, and is at most 1. Comparing the
    adjusted values with 0.05 keeps the chance of any false alarm in the family at 5 %, whatever their dependence.
    """
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p, kind="stable")
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(1.0, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return [float(value) for value in adjusted]


def detectable_change(n: int) -> float | None:
    """The smallest change that `n` pairs show (McNemar p < 0.05) with 80 % power, if all changes go one way.

    The best case: with changes in both directions, more is needed. McNemar's test needs six one-way changes for
    p < 0.05, so fewer than six pairs can show nothing, and None is returned.
    """
    needed = 1
    while mcnemar(needed, 0) >= ALPHA:
        needed += 1
    if n < needed:
        return None
    return float(brentq(lambda change: binom.sf(needed - 1, n, change) - POWER, 1e-9, 1.0))


def detectable_difference(n: int, rate: float, rise: bool) -> float | None:
    """The smallest change from `rate` that a second model, measured on n other answers, shows with 80 % power.

    The rate is taken as the first model's true one. None where n is above `LARGEST_POWER_N`, or where not even the
    largest possible change would show.
    """
    largest = 1.0 - rate if rise else rate
    if not 0 < n <= LARGEST_POWER_N or largest <= 0:
        return None
    sign = 1.0 if rise else -1.0

    def surplus(change: float) -> float:
        return power(n, rate, min(1.0, max(0.0, rate + sign * change))) - POWER

    return float(brentq(surplus, 0.0, largest)) if surplus(largest) >= 0 else None


def power(n: int, first: float, second: float) -> float:
    """The chance that Fisher's test finds p < 0.05 between two rates, each measured on n answers; exact."""
    counts = np.arange(n + 1)
    chances = np.outer(binom.pmf(counts, n, first), binom.pmf(counts, n, second))
    return float(chances[fisher_p(n) < ALPHA].sum())


@cache
def fisher_p(n: int) -> Array:
    """Two-sided p of Fisher's exact test for every pair of counts out of n and n. Shape (n + 1, n + 1).

    Equal to `scipy.stats.fisher_exact` on each table, but in one pass per margin: the probability of all tables with
    the same margins that are no likelier than the observed one.
    """
    p_values = np.ones((n + 1, n + 1))
    for total in range(2 * n + 1):
        first = np.arange(max(0, total - n), min(n, total) + 1)
        chance = hypergeom.pmf(first, 2 * n, n, total)
        for count, own in zip(first, chance, strict=True):
            p_values[count, total - count] = chance[chance <= own * (1 + 1e-7)].sum()
    return p_values
