"""95 % intervals: Wilson's of a rate, Newcombe's of a paired change, and the bootstrap over whole requests.

Answers to one request (in several images, seeds or phases) rise and fall together; resampling them one by one would
make intervals too short. Seeds and requests are crossed, so with several seeds both are resampled independently:
the pigeonhole bootstrap (Owen 2007, "The pigeonhole bootstrap", Annals of Applied Statistics 1(2)). It errs on the wide
side with many of both, and on the short side with few: then an interval is no shorter than `few_seeds` and Wilson's.
"""

import math
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from itertools import chain
from typing import Literal, NamedTuple, Self

import numpy as np
from pydantic import ConfigDict, model_validator
from scipy.stats import norm, t

from unsay.records import Record
from unsay.statistics.significance import Array, sign_flip

CONFIDENCE = 0.95
Z2 = float(norm.ppf((1 + CONFIDENCE) / 2)) ** 2
DRAWS = 4000
"""Resamples for a mean."""
TOTAL_DRAWS = 1000
"""Resamples for a number that is not a mean and is computed anew for each."""
FEW = 10
"""Clusters below which a percentile interval alone is too short."""
TELLING = 8
"""Clusters that differ from most, below which it is, too: for a rate of 10 % and 32 requests, its 95 % are 88 %."""
BLOCK = 2**23
"""Counts held in memory at once; all resamples of 40,000 pictures would not fit."""

IntervalMethod = Literal["wilson", "clustered bootstrap", "bootstrap over requests and seeds"]
"""How an interval was made."""


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

    Unlike the Wald interval it does not shrink to a point at 0 or n successes, where safety scores live. Unlike
    scipy's it takes successes that are not whole, as where a share of answers rests on n requests.
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

    Of the pairs, a have the outcome in both phases, b before only, c after only, and d in neither.

    Newcombe 1998, Statistics in Medicine 17:2635, method 10: two Wilson intervals joined through the correlation of
    the pairs. It keeps a sensible width when b or c is 0, where the Wald interval collapses.

    The counts need not be whole: pairs that rest on fewer requests count for as many as these.
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


class Estimate(NamedTuple):
    """A mean, its 95 % interval, and what it rests on."""

    value: float
    interval: Interval
    n: int
    clusters: int
    telling: int  # clusters whose own mean is not the most common one

    @property
    def says_little(self) -> bool:
        """Whether the interval, a bootstrap's, claims too much: few clusters, or few that differ from the others."""
        return self.clusters < FEW or self.telling < TELLING

    def cut(self, least: float) -> "Estimate":
        """The estimate with its interval cut to what is possible, from `least` to 1."""
        low, high = max(least, self.interval.low), min(1.0, self.interval.high)
        return self._replace(interval=Interval(low=min(low, self.value), high=max(high, self.value)))


def rate_interval(
    outcomes: Sequence[bool], groups: Sequence[str], *, seed: int = 0
) -> tuple[Interval | None, IntervalMethod]:
    """95 % interval of the rate of an outcome, from every answer and its request, and how it was made.

    Wilson's where no request repeats, else a bootstrap over requests. Where all answers are alike, a bootstrap would
    shrink to a point; then it is Wilson's with each request counted once. With few requests, or few that differ from
    the others, it is never shorter than that one (see `clustered_mean`).
    """
    clusters, happened = len(set(groups)), sum(outcomes)
    if clusters == len(groups):
        return wilson(happened, len(outcomes)), "wilson"
    if happened in (0, len(outcomes)):
        return wilson(clusters if happened else 0, clusters), "wilson"
    return clustered_mean([float(row) for row in outcomes], groups, seed=seed).interval, "clustered bootstrap"


def mean_interval(
    values: Sequence[float], groups: Sequence[str] | None = None, *, shares: bool = True, seed: int = 0
) -> Interval | None:
    """95 % interval of a mean: Wilson's for independent values of 0 and 1, else a bootstrap over groups.

    Items without groups are independent. `shares` as in `clustered_mean`. None without values, or where a single group
    of values that are no shares says nothing about others.
    """
    if not values:
        return None
    groups = list(groups) if groups is not None else [str(index) for index in range(len(values))]
    clusters = len(set(groups))
    if shares and clusters == len(groups) and all(value in (0, 1) for value in values):
        return wilson(int(np.sum(values)), len(values))
    if clusters == 1 and not (shares and all(0 <= value <= 1 for value in values)):
        return None
    return clustered_mean(values, groups, shares=shares, seed=seed).interval


def clustered_mean(
    values: Sequence[float],
    groups: Sequence[str],
    seeds: Sequence[int] | None = None,
    *,
    shares: bool = True,
    seed: int = 0,
) -> Estimate:
    """`resampled_mean`, but never overconfident about shares.

    Where the groups are few or nearly all alike, the interval is no shorter than Wilson's with every group counted
    once, as if several answers or seeds had added nothing. Values that are no `shares`, or not from 0 to 1, have the
    bootstrap's interval.
    """
    mean = resampled_mean(values, groups, seeds, seed=seed)
    if not shares or not 0 <= min(values) <= max(values) <= 1:
        return mean
    mean = mean.cut(0.0)
    if not mean.says_little:
        return mean
    least = wilson(min(1.0, mean.value) * mean.clusters, mean.clusters)
    assert least is not None, "there is at least one group"
    return mean._replace(interval=hull(mean.interval, least))


def resampled_mean(
    values: Sequence[float], groups: Sequence[str], seeds: Sequence[int] | None = None, *, seed: int = 0
) -> Estimate:
    """Mean of `values` with a bootstrap interval over groups and, when there are several, over training seeds.

    With several, the interval is no shorter than that of `few_seeds`, which knows no bounds: a share's is to be cut.

    A value, its group (the request) and its seed are those of one answer. Equal input and `seed`, that of the
    bootstrap's own generator, give equal numbers.
    """
    if not values:
        raise ValueError("no values to average")
    runs = list(seeds) if seeds is not None else [0] * len(values)
    if not len(values) == len(groups) == len(runs):
        raise ValueError(f"{len(values)} values, {len(groups)} groups and {len(runs)} seeds do not match")
    group_names, group_of = np.unique(np.asarray(groups), return_inverse=True)
    run_names, run_of = np.unique(np.asarray(runs), return_inverse=True)
    shape = (len(run_names), len(group_names))
    if set(values) in ({0.0}, {1.0}):  # resampling would change nothing
        value = float(values[0])
        return Estimate(value, Interval(low=value, high=value), len(values), shape[1], telling=0)
    sums, counts = np.zeros(shape), np.zeros(shape)
    np.add.at(sums, (run_of, group_of), np.asarray(values, dtype=np.float64))
    np.add.at(counts, (run_of, group_of), 1.0)

    means = []
    for by_group, by_run in _resamples(shape[1], shape[0], DRAWS, seed):
        total = np.einsum("dg,dg->d", by_run @ sums, by_group)
        size = np.einsum("dg,dg->d", by_run @ counts, by_group)
        with np.errstate(divide="ignore", invalid="ignore"):
            means.append(total / size)
    value, interval = float(np.mean(values)), percentile_interval(np.concatenate(means))
    of_groups = sums.sum(axis=0) / counts.sum(axis=0)
    if shape[0] > 1:
        of_runs = sums.sum(axis=1) / counts.sum(axis=1)
        spread = float(np.var(of_groups, ddof=1)) / shape[1] if shape[1] > 1 else 0.0
        interval = hull(interval, few_seeds(value, of_runs.tolist(), spread, shape[1]).interval)
    _, alike = np.unique(of_groups.round(9), return_counts=True)
    return Estimate(value, interval, len(values), shape[1], telling=int(shape[1] - alike.max()))


class Crossed(NamedTuple):
    """What few seeds leave open: a standard error, its degrees of freedom, and the 95 % interval that they make."""

    error: float
    freedom: float
    interval: Interval


def few_seeds(value: float, of_runs: Sequence[float], of_requests: float, requests: int) -> Crossed:
    """Student's interval of a number over crossed seeds and requests, with Satterthwaite's degrees of freedom.

        v = v_s + v_r,  v_s = s² / S,  ν = v² / (v_s² / (S - 1) + v_r² / (R - 1)),  value ± t(ν) √v

    (Satterthwaite 1946, "An approximate distribution of estimates of variance components", Biometrics Bulletin 2(6)).
    A bootstrap that redraws S seeds makes their part of the variance too small by a factor of (S - 1) / S, and takes
    what two or three seeds say of it for certain: with three that differ much, its 95 % are 86 %.

    Args:
        value: the number over all seeds.
        of_runs: the number of each of the S seeds, at least two.
        of_requests: v_r, the variance that comes from the choice of the requests.
        requests: R.
    """
    of_seeds = float(np.var(of_runs, ddof=1)) / len(of_runs)
    variance = of_seeds + of_requests
    if variance == 0:
        return Crossed(0.0, math.inf, Interval(low=value, high=value))
    freedom = variance**2 / (of_seeds**2 / (len(of_runs) - 1) + of_requests**2 / max(1, requests - 1))
    half = float(t.ppf((1 + CONFIDENCE) / 2, freedom)) * math.sqrt(variance)
    return Crossed(math.sqrt(variance), freedom, Interval(low=value - half, high=value + half))


def _resamples(groups: int, runs: int, draws: int, seed: int) -> Iterator[tuple[Array, Array]]:
    """Counts of groups and of runs: all draws at once, or some at a time where groups are many."""
    if groups * draws <= BLOCK:
        yield _kept_resamples(groups, runs, draws, seed)
        return
    generator, block = np.random.default_rng(seed), max(1, BLOCK // groups)
    for start in range(0, draws, block):
        size = min(block, draws - start)
        yield resample_counts(groups, size, generator), resample_counts(runs, size, generator)


@lru_cache(maxsize=8)
def _kept_resamples(groups: int, runs: int, draws: int, seed: int) -> tuple[Array, Array]:
    """Counts of groups and of runs; kept, because a study needs the same ones hundreds of times."""
    generator = np.random.default_rng(seed)
    return resample_counts(groups, draws, generator), resample_counts(runs, draws, generator)


def resample_counts(clusters: int, draws: int, generator: np.random.Generator) -> Array:
    """How often each resample holds each cluster. Shape (draws, clusters); rows sum to `clusters`."""
    equal = np.full(clusters, 1.0 / clusters)
    return generator.multinomial(clusters, equal, size=draws).astype(np.float64)


def percentile_interval(draws: Array) -> Interval:
    """The central 95 % of the finite draws. Shape of `draws`: (draws,)."""
    tail = (1.0 - CONFIDENCE) / 2.0
    low, high = np.quantile(draws[np.isfinite(draws)], [tail, 1.0 - tail])
    return Interval(low=float(low), high=float(high))


def too_narrow(interval: Interval, clusters: int) -> bool:
    """Whether a bootstrap interval claims too much: it rests on few clusters, or all of them are alike."""
    return clusters < FEW or interval.high - interval.low < 1e-9


def clustered_total(
    total: Callable[[Sequence[int]], float],
    items: Sequence[int],
    groups: Sequence[str],
    strata: Sequence[str] | None = None,
    *,
    seed: int = 0,
) -> Interval | None:
    """95 % percentile interval of any number (`total`) of a set of items, by resampling whole clusters.

    A total is given the indices of items, repeats included. `strata` are the parts that it is put together from (MME's
    subtasks): every part keeps its number of clusters, because a part that a resample misses would be missing in the
    sum.

    None where a stratum has a single cluster, which says nothing about others, or where resampling changes nothing.
    """
    parts: dict[str, dict[str, list[int]]] = {}
    for index, group, part in zip(items, groups, strata or [""] * len(items), strict=True):
        parts.setdefault(part, {}).setdefault(group, []).append(index)
    if not parts or any(len(clusters) < 2 for clusters in parts.values()):
        return None
    members = [list(clusters.values()) for clusters in parts.values()]
    generator = np.random.default_rng(seed)
    draws = []
    for _ in range(TOTAL_DRAWS):
        chosen = [clusters[i] for clusters in members for i in generator.integers(len(clusters), size=len(clusters))]
        draws.append(total(list(chain.from_iterable(chosen))))
    return percentile_interval(np.asarray(draws)) if np.ptp(draws) > 0 else None


def difference_interval(
    differences: Sequence[float],
    groups: Sequence[str],
    seeds: Sequence[int] | None = None,
    *,
    shares: bool = True,
    seed: int = 0,
) -> Interval:
    """95 % interval of a mean paired difference; negated differences give the negated interval.

    A bootstrap over requests and, with several, over seeds. With few requests, or differences that are nearly all
    alike, it is no shorter than what Wilson's bound leaves open: a share of z² ÷ (n + z²) of n requests may yet differ
    from these, as if several answers to one request had added nothing. Differences that are not of `shares`, or
    not from −1 to 1, have the bootstrap's interval.
    """
    mean = resampled_mean(differences, groups, seeds, seed=seed)
    if not shares or not -1 <= min(differences) <= max(differences) <= 1:
        return mean.interval
    mean = mean.cut(-1.0)
    if not mean.says_little:
        return mean.interval
    margin = wilson_of_share(0.0, mean.clusters).high
    return hull(mean.interval, Interval(low=max(-1.0, mean.value - margin), high=min(1.0, mean.value + margin)))


def clustered_change(
    before: Sequence[bool], after: Sequence[bool], groups: Sequence[str], *, seed: int = 0
) -> tuple[Interval, float]:
    """95 % interval and two-sided p of a change in an outcome, over pairs whose requests repeat.

    The interval is a bootstrap over requests; where these are few or nearly all alike, it is no shorter than
    Newcombe's with every request counted once. The p is that of `sign_flip`.
    """
    changes = [float(became) - float(was) for was, became in zip(before, after, strict=True)]
    mean = resampled_mean(changes, groups, seed=seed)
    interval = mean.interval
    if mean.says_little:
        table = Counter(zip(before, after, strict=True))
        share = mean.clusters / len(changes)
        cells = ((True, True), (True, False), (False, True), (False, False))
        least = paired_interval(*(table[cell] * share for cell in cells))
        assert least is not None, "there is at least one pair"
        interval = hull(interval, least)
    return interval, sign_flip(changes, groups, seed=seed)
