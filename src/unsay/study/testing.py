"""Is one arm better than another? Paired by request, and corrected for the number of questions."""

from collections import defaultdict
from collections.abc import Sequence

import numpy as np

FLIPS = 20_000
"""Random sign flips where values are not whole numbers."""
MOST = 5_000
"""Largest sum of whole numbers for which all sign flips are counted out."""


def sign_flip_p(differences: Sequence[float], groups: Sequence[str], *, seed: int = 0) -> float:
    """Two-sided p of "the two arms are alike", by flipping the signs of whole requests.

    If two arms are alike, a request's difference is as likely to point one way as the other. What is flipped are sums
    over all answers to a request (its suites, pictures and seeds), for these rise and fall together. With one answer a
    request and outcomes 0 and 1 this is McNemar's exact test. Whole numbers are counted out exactly; others are flipped
    at random, `FLIPS` times, and the p is then that of Phipson and Smyth 2010 (doi 10.2202/1544-6115.1585), never 0.

    Args:
        differences: first minus second, one per answer.
        groups: the request of each.
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
    signs = np.random.default_rng(seed).choice((-1.0, 1.0), size=(FLIPS, len(sizes)))
    reached = int(np.count_nonzero(np.abs(signs @ sizes) >= abs(sizes.sum()) * (1 - 1e-12)))
    return (1 + reached) / (1 + FLIPS)


def _exact(sizes: Sequence[int], observed: int) -> float:
    """Probability that Σ ±size is at least as far from 0, all signs being equally likely."""
    total = sum(sizes)
    chance = np.zeros(2 * total + 1)
    chance[total] = 1.0
    for size in sizes:
        chance = (np.roll(chance, size) + np.roll(chance, -size)) / 2  # the ends are still 0: nothing rolls over
    distance = np.abs(np.arange(-total, total + 1))
    return min(1.0, float(chance[distance >= observed].sum()))


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's step-down correction (Holm 1979, Scandinavian Journal of Statistics 6:65), in the order given."""
    order = sorted(range(len(p_values)), key=lambda index: p_values[index])
    corrected, highest = [0.0] * len(p_values), 0.0
    for rank, index in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[index]))
        corrected[index] = highest
    return corrected
