"""The same prompts before and after: is the change real, how large, and what could have been seen at all."""

import math
from collections import Counter
from collections.abc import Sequence

from scipy.optimize import brentq
from scipy.stats import binom, binomtest

from unsay.scoring.bootstrap import hull, narrow, redrawn_mean
from unsay.scoring.schema import Interval
from unsay.scoring.sign_flip import sign_flip
from unsay.scoring.wilson import wilson

ALPHA = 0.05
POWER = 0.80


def mcnemar(b: int, c: int) -> float:
    """Two-sided p of McNemar's exact test on `b` and `c` discordant pairs; 1 when nothing changed."""
    if b + c == 0:
        return 1.0
    return float(binomtest(b, b + c, 0.5).pvalue)


def difference_interval(
    differences: Sequence[float], groups: Sequence[str], seeds: Sequence[int] | None = None, *, seed: int = 0
) -> Interval:
    """95 % interval of a mean paired difference; turned round, the differences give the same interval turned round.

    A bootstrap over requests and, with several, over seeds. With few requests, or differences that are all alike, it
    is no shorter than what Wilson's bound leaves open: a share of z² ÷ (n + z²) of n requests may yet differ from
    these, as if answers to the same one had added nothing. Differences that are not all between −1 and 1 are none of
    shares, and have the bootstrap's interval.

    Args:
        differences: one per pair, at least one.
        groups: the request of each pair.
        seeds: the training seed of each; None for one.
        seed: of the bootstrap.
    """
    found = redrawn_mean(differences, groups, seeds, seed=seed)
    if not narrow(found.interval, found.clusters) or not -1 <= min(differences) <= max(differences) <= 1:
        return found.interval
    none = wilson(0, found.clusters)
    assert none is not None, "there is at least one pair"
    low, high = max(-1.0, found.value - none.high), min(1.0, found.value + none.high)
    return hull(found.interval, Interval(low=low, high=high))


def clustered_change(
    before: Sequence[bool], after: Sequence[bool], groups: Sequence[str], *, seed: int = 0
) -> tuple[Interval, float]:
    """95 % interval and two-sided p of a paired change where requests repeat: whole requests are redrawn, or flipped.

    The interval is a bootstrap over requests; with few of them, or all alike, it is no shorter than Newcombe's with
    every request counted once. The p is that of a sign-flip test (`sign_flip`).

    Args:
        before: per pair, at least one, whether the outcome happened before.
        after: the same after.
        groups: the request of each pair.
        seed: of both draws.
    """
    changes = [float(became) - float(was) for was, became in zip(before, after, strict=True)]
    clusters = len(set(groups))
    interval = redrawn_mean(changes, groups, seed=seed).interval
    if narrow(interval, clusters):
        table = Counter(zip(before, after, strict=True))
        share = clusters / len(changes)
        cells = ((True, True), (True, False), (False, True), (False, False))
        interval = hull(interval, paired_interval(*(table[cell] * share for cell in cells)))
    return interval, sign_flip(changes, groups, seed=seed)


def paired_interval(a: float, b: float, c: float, d: float) -> Interval | None:
    """95 % interval of the change (after - before) in a paired rate.

    Newcombe 1998, Statistics in Medicine 17:2635, method 10: two Wilson intervals joined through the correlation of
    the pairs. It keeps a sensible width when b or c is 0, where the Wald interval collapses.

    Args:
        a: outcome in both phases.
        b: outcome before only.
        c: outcome after only.
        d: outcome in neither.

    The counts need not be whole: pairs of fewer requests count for as many as these.

    Returns:
        None when there are no pairs.
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


def detectable_change(n: int, alpha: float = ALPHA, power: float = POWER) -> float | None:
    """The smallest change that `n` pairs would show (McNemar p < alpha) with this power, if all changes go one way.

    The best case: with changes in both directions, more is needed. McNemar's test needs six one-way changes for
    p < 0.05, so fewer than six pairs can show nothing, and None is returned.
    """
    needed = 1
    while mcnemar(needed, 0) >= alpha:
        needed += 1
    if n < needed:
        return None
    return float(brentq(lambda change: binom.sf(needed - 1, n, change) - power, 1e-9, 1.0))
