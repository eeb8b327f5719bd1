"""The same prompts before and after: is the change real, how large, and what could have been seen at all."""

import math
from collections.abc import Sequence

import numpy as np
from scipy.optimize import brentq
from scipy.stats import binom, binomtest

from unsay.scoring.bootstrap import DRAWS, clustered_mean
from unsay.scoring.intervals import wilson
from unsay.scoring.schema import Interval

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

    A bootstrap over requests and, with several, over seeds. Where all differences are −1, 0 or 1 alike, it would shrink
    to a point, and would take the requests asked for all there are. Then Wilson's bound says how large a share of
    requests may yet differ from these: z² ÷ (n + z²) of n requests, as if answers to the same one had added nothing.

    Args:
        differences: one per pair, at least one; between −1 and 1 for rates.
        groups: the request of each pair.
        seeds: the training seed of each; None for one.
        seed: of the bootstrap.
    """
    alike = set(differences)
    if len(alike) == 1 and (value := alike.pop()) in (-1, 0, 1):
        none = wilson(0, len(set(groups)))
        assert none is not None, "there is at least one pair"
        low, high = max(-1.0, value - none.high), min(1.0, value + none.high)
        return Interval(low=low, high=high)
    return clustered_mean(differences, groups, seeds, seed=seed).interval


def clustered_change(changes: Sequence[int], groups: Sequence[str], *, seed: int = 0) -> tuple[Interval, float]:
    """95 % interval and two-sided p of a paired change where requests repeat: whole requests are redrawn, or flipped.

    The interval is a bootstrap over requests. The p is that of a sign-flip test: if nothing changed, all changes of one
    request together are as likely to be the other way round.

    Args:
        changes: per pair −1 (outcome before only), 1 (after only) or 0.
        groups: the request of each pair.
        seed: of both draws.

    Returns:
        The interval; and p, which is at least 1 ÷ (draws + 1).
    """
    interval = difference_interval([float(change) for change in changes], groups, seed=seed)
    names, place = np.unique(np.asarray(groups), return_inverse=True)
    sums = np.zeros(len(names))
    np.add.at(sums, place, np.asarray(changes, dtype=np.float64))
    signs = np.random.default_rng(seed).choice((-1.0, 1.0), size=(DRAWS, len(names)))
    as_far = np.abs(signs @ sums) >= abs(sums.sum()) - 1e-9
    return interval, float((as_far.sum() + 1) / (DRAWS + 1))


def paired_interval(a: int, b: int, c: int, d: int) -> Interval | None:
    """95 % interval of the change (after - before) in a paired rate.

    Newcombe 1998, Statistics in Medicine 17:2635, method 10: two Wilson intervals joined through the correlation of
    the pairs. It keeps a sensible width when b or c is 0, where the Wald interval collapses.

    Args:
        a: outcome in both phases.
        b: outcome before only.
        c: outcome after only.
        d: outcome in neither.

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


def _correlation(a: int, b: int, c: int, d: int) -> float:
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
