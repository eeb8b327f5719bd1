"""Wilson's score interval of a share, also of one that rests on fewer independent requests than answers."""

import math

from scipy.stats import norm

from unsay.scoring.schema import Interval

CONFIDENCE = 0.95


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
