"""The sign-flip test of paired differences: whole requests are flipped, for their answers rise and fall together."""

from collections import defaultdict
from collections.abc import Sequence
from itertools import product

import numpy as np
from numpy.typing import NDArray

FLIPS = 20_000
"""Random sign flips where values are not whole numbers; as many patterns of signs are all tried."""
BLOCK = 2**22
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
    generator, block, reached = np.random.default_rng(seed), max(1, BLOCK // len(sizes)), 0
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
