"""Intervals, tests and bootstraps of rates, means and paired differences, clustered by request.

Clustered bootstrap: whole requests are redrawn, never single answers.

Answers to one request (in several images, seeds or phases) rise and fall together; redrawing them one by one would
make intervals too short. Seeds and requests are crossed, so with several seeds both are redrawn independently:
the pigeonhole bootstrap (Owen 2007, "The pigeonhole bootstrap", Annals of Applied Statistics 1(2)), which errs on
the wide side.

Wilson's score interval of a share, also of one that rests on fewer independent requests than answers.

Intervals of a rate and of a mean.

The same prompts before and after: is the change real, how large, and what could have been seen at all.

What a number of answers could have shown at all, when another model is measured on as many.

The sign-flip test of paired differences: whole requests are flipped, for their answers rise and fall together.

Holm's correction: many suites are compared, and one of them will look different by chance.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Sequence
from functools import cache, lru_cache
from itertools import product
from typing import Literal, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import ConfigDict, model_validator
from scipy.optimize import brentq
from scipy.stats import binom, binomtest, hypergeom, norm

from unsay.records import Record

CONFIDENCE = 0.95

Method = Literal["wilson", "clustered bootstrap", "bootstrap over requests and seeds"]
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


def wilson(successes: float, n: float, confidence: float = CONFIDENCE) -> Interval | None:
    """Wilson's score interval of `successes / n` (Wilson 1927), or None when n is 0.

    Unlike the Wald interval it does not shrink to a point at 0 or n successes, where safety scores live.

    Args:
        successes: from 0 to n; not whole where a share of answers stands on n requests.
        n: independent observations.
        confidence: of the interval, two-sided.

    Raises:
        ValueError: more successes than observations, or fewer than none.
    """
    if n == 0:
        return None
    if not 0 <= successes <= n:
        raise ValueError(f"{successes} of {n} is no share")
    z2 = float(norm.ppf((1 + confidence) / 2)) ** 2
    share = successes / n
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    # At 0 and n one edge is the share itself, which rounding must not miss.
    return Interval(low=max(0.0, min(share, middle - half)), high=min(1.0, max(share, middle + half)))


DRAWS = 4000
FEW = 10
"""Clusters below which a percentile interval of redrawn clusters is too short to be believed alone."""
Array = NDArray[np.float64]


class Estimate(NamedTuple):
    """A number, its 95 % percentile interval, and what it rests on."""

    value: float
    interval: Interval
    n: int
    clusters: int


def weights(clusters: int, draws: int, generator: np.random.Generator) -> Array:
    """How often each cluster is drawn in each resample. Shape (draws, clusters); rows sum to `clusters`."""
    equal = np.full(clusters, 1.0 / clusters)
    return generator.multinomial(clusters, equal, size=draws).astype(np.float64)


BLOCK = 2**23
"""Weights that are held at once: those of 40,000 pictures would fill the memory."""


def _resamples(groups: int, runs: int, draws: int, seed: int) -> Iterator[tuple[Array, Array]]:
    """Weights of groups and of runs: all draws at once, or some at a time where groups are many."""
    if groups * draws <= BLOCK:
        yield _redrawn(groups, runs, draws, seed)
        return
    generator, block = np.random.default_rng(seed), max(1, BLOCK // groups)
    for start in range(0, draws, block):
        size = min(block, draws - start)
        yield weights(groups, size, generator), weights(runs, size, generator)


@lru_cache(maxsize=8)
def _redrawn(groups: int, runs: int, draws: int, seed: int) -> tuple[Array, Array]:
    """Weights of groups and of runs; remembered, for a study asks for the same ones hundreds of times."""
    generator = np.random.default_rng(seed)
    return weights(groups, draws, generator), weights(runs, draws, generator)


def percentile_interval(draws: Array, confidence: float = 0.95) -> Interval:
    """The central `confidence` of the finite draws. Shape of `draws`: (draws,)."""
    tail = (1.0 - confidence) / 2.0
    low, high = np.quantile(draws[np.isfinite(draws)], [tail, 1.0 - tail])
    return Interval(low=float(low), high=float(high))


def narrow(interval: Interval, clusters: int) -> bool:
    """Whether a bootstrap interval claims too much: it rests on few clusters, or all of them are alike."""
    return clusters < FEW or interval.high - interval.low < 1e-9


def hull(first: Interval, second: Interval | None) -> Interval:
    """The shortest interval that holds both."""
    if second is None:
        return first
    return Interval(low=min(first.low, second.low), high=max(first.high, second.high))


def clustered_mean(
    values: Sequence[float],
    groups: Sequence[str],
    seeds: Sequence[int] | None = None,
    *,
    seed: int = 0,
    draws: int = DRAWS,
) -> Estimate:
    """`redrawn_mean`, with an interval of shares that one request asked four times cannot make a point of.

    Where all values lie from 0 to 1 and rest on few groups, or are alike in all, it is no shorter than Wilson's with
    every group counted once.
    """
    found = redrawn_mean(values, groups, seeds, seed=seed, draws=draws)
    if not narrow(found.interval, found.clusters) or not 0 <= min(values) <= max(values) <= 1:
        return found
    share = wilson(min(1.0, found.value) * found.clusters, found.clusters)
    return found._replace(interval=hull(found.interval, share))


def redrawn_mean(
    values: Sequence[float],
    groups: Sequence[str],
    seeds: Sequence[int] | None = None,
    *,
    seed: int = 0,
    draws: int = DRAWS,
) -> Estimate:
    """Mean of `values` with a bootstrap interval over groups and, when there are several, over training seeds.

    Args:
        values: one number per answer (1.0 where the outcome happened, else 0.0, for a rate).
        groups: the request of each answer.
        seeds: the training seed of each answer; None for a single run.
        seed: of the bootstrap's own generator; equal input and seed give equal numbers.
        draws: resamples.

    Raises:
        ValueError: no values, or lists of different lengths.
    """
    if not values:
        raise ValueError("no values to average")
    runs = list(seeds) if seeds is not None else [0] * len(values)
    if not len(values) == len(groups) == len(runs):
        raise ValueError(f"{len(values)} values, {len(groups)} groups and {len(runs)} seeds do not match")
    group_names, group_of = np.unique(np.asarray(groups), return_inverse=True)
    run_names, run_of = np.unique(np.asarray(runs), return_inverse=True)
    shape = (len(run_names), len(group_names))
    sums, counts = np.zeros(shape), np.zeros(shape)
    np.add.at(sums, (run_of, group_of), np.asarray(values, dtype=np.float64))
    np.add.at(counts, (run_of, group_of), 1.0)

    means = []
    for by_group, by_run in _resamples(shape[1], shape[0], draws, seed):
        total = np.einsum("dg,dg->d", by_run @ sums, by_group)
        size = np.einsum("dg,dg->d", by_run @ counts, by_group)
        with np.errstate(divide="ignore", invalid="ignore"):
            means.append(total / size)
    interval = percentile_interval(np.concatenate(means))
    return Estimate(float(np.mean(values)), interval, len(values), shape[1])


TOTAL_DRAWS = 1000
"""Resamples of a number that is no mean: it is computed anew for each."""


def clustered_total(
    total: Callable[[Sequence[int]], float],
    items: Sequence[int],
    groups: Sequence[str],
    strata: Sequence[str] | None = None,
    *,
    seed: int = 0,
) -> Interval | None:
    """95 % percentile interval of any number of a set of items, by redrawing whole clusters.

    Args:
        total: indices of items, repeats included → the number.
        items: the indices that count.
        groups: the cluster of each of them.
        strata: the part of the number that each belongs to, where that is put together from parts (MME's subtasks):
            every part keeps its number of clusters, for one that a draw misses would be missing in the sum.
        seed: of the bootstrap.

    Returns:
        None where a stratum has a single cluster, which says nothing of others, or where redrawing changes nothing.
    """
    parts: dict[str, dict[str, list[int]]] = {}
    for index, group, part in zip(items, groups, strata or [""] * len(items), strict=True):
        parts.setdefault(part, {}).setdefault(group, []).append(index)
    if not parts or any(len(clusters) < 2 for clusters in parts.values()):
        return None
    members = [list(clusters.values()) for clusters in parts.values()]
    generator = np.random.default_rng(seed)
    draws = [
        total(
            [
                index
                for clusters in members
                for place in generator.integers(len(clusters), size=len(clusters))
                for index in clusters[place]
            ]
        )
        for _ in range(TOTAL_DRAWS)
    ]
    return percentile_interval(np.asarray(draws)) if np.ptp(draws) > 0 else None


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


FLIPS = 20_000
"""Random sign flips where values are not whole numbers; as many patterns of signs are all tried."""
SIGN_FLIP_BLOCK = 2**22
"""Signs that are drawn at once: those of a suite of 40,000 pictures would fill the memory."""
MOST = 5_000
"""Largest sum of whole numbers for which all sign flips are counted out."""


def sign_flip(differences: Sequence[float], groups: Sequence[str], *, flips: int = FLIPS, seed: int = 0) -> float:
    """Two-sided p of no difference.

    If two models are alike, a request's difference is as likely to point one way as the other. What is flipped are sums
    over all answers to a request (its suites, pictures and seeds), for these rise and fall together. With one answer a
    request and outcomes 0 and 1 this is McNemar's exact test. Whole numbers are counted out exactly, and so are
    others of few requests; the rest is flipped at random, and the p is then that of Phipson and Smyth 2010
    (doi 10.2202/1544-6115.1585), never 0.

    Args:
        differences: one per pair of answers.
        groups: the request, or other cluster, of each pair.
        flips: how many are drawn at random; p is at least 1 ÷ (flips + 1) then.
        seed: of the random flips.
    """
    sums: defaultdict[str, float] = defaultdict(float)
    for value, group in zip(differences, groups, strict=True):
        sums[group] += value
    found = [value for value in sums.values() if value != 0]
    if not found:
        return 1.0
    if all(float(value).is_integer() for value in found) and sum(map(abs, found)) <= MOST:
        return _exact([round(abs(value)) for value in found], abs(round(sum(found))))
    sizes = np.asarray(found)
    if 2 ** len(sizes) <= flips:
        every = np.array(list(product((-1.0, 1.0), repeat=len(sizes))))
        return float(np.mean(_as_far(every @ sizes, sizes)))
    generator, block, reached = np.random.default_rng(seed), max(1, SIGN_FLIP_BLOCK // len(sizes)), 0
    for start in range(0, flips, block):
        signs = generator.choice((-1.0, 1.0), size=(min(block, flips - start), len(sizes)))
        reached += int(np.count_nonzero(_as_far(signs @ sizes, sizes)))
    return (1 + reached) / (1 + flips)


def _as_far(sums: NDArray[np.float64], sizes: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Which sums are at least as far from 0 as that of the sizes, but for rounding."""
    reached: NDArray[np.bool_] = np.abs(sums) >= abs(sizes.sum()) - 1e-9 * np.abs(sizes).sum()
    return reached


def _exact(sizes: Sequence[int], observed: int) -> float:
    """Probability that Σ ±size is at least as far from 0, all signs being equally likely."""
    total = sum(sizes)
    chance = np.zeros(2 * total + 1)
    chance[total] = 1.0
    for size in sizes:
        chance = (np.roll(chance, size) + np.roll(chance, -size)) / 2  # the ends are still 0: nothing rolls over
    distance = np.abs(np.arange(-total, total + 1))
    return min(1.0, float(chance[distance >= observed].sum()))


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


SMALL = 100
"""Answers up to which the smallest detectable difference is computed, exactly, and shown."""
_Array = NDArray[np.float64]


@cache
def fisher_p(n: int) -> _Array:
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


def holm(p_values: Sequence[float]) -> list[float]:
    """Adjusted p, in the order given (Holm 1979, Scandinavian Journal of Statistics 6:65).

    The k-th smallest of m is multiplied by m − k + 1, never falls below an earlier one, and is at most 1. Comparing the
    adjusted values with 0.05 keeps the chance of any false alarm in the family at 5 %, whatever their dependence.
    """
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    adjusted = [0.0] * len(p_values)
    highest = 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(order) - rank) * p_values[index]))
        adjusted[index] = highest
    return adjusted
