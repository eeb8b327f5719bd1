"""Clustered bootstrap: whole requests are redrawn, never single answers.

Answers to one request (in several images, seeds or phases) rise and fall together; redrawing them one by one would
make intervals too short. Seeds and requests are crossed, so with several seeds both are redrawn independently:
the pigeonhole bootstrap (Owen 2007, "The pigeonhole bootstrap", Annals of Applied Statistics 1(2)), which errs on
the wide side.
"""

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from unsay.scoring.schema import Interval
from unsay.scoring.wilson import wilson

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
