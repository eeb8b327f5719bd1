"""Intervals, tests and bootstraps of rates, means and paired differences, clustered by request.

- `intervals`: Wilson's, Newcombe's, the bootstrap over whole requests, and the choice between them.
- `significance`: paired tests, their correction for many suites, and what a number of answers could show at all.
"""

from unsay.statistics.intervals import (
    Interval,
    IntervalMethod,
    clustered_change,
    clustered_mean,
    clustered_total,
    difference_interval,
    effective_n,
    few_seeds,
    hull,
    mean_interval,
    paired_interval,
    percentile_interval,
    rate_interval,
    resample_counts,
    resampled_mean,
    too_narrow,
    wilson,
    wilson_of_share,
)
from unsay.statistics.significance import (
    ALPHA,
    detectable_change,
    detectable_difference,
    holm,
    mcnemar,
    sign_flip,
)

__all__ = [
    "ALPHA",
    "Interval",
    "IntervalMethod",
    "clustered_change",
    "clustered_mean",
    "clustered_total",
    "detectable_change",
    "detectable_difference",
    "difference_interval",
    "effective_n",
    "few_seeds",
    "holm",
    "hull",
    "mcnemar",
    "mean_interval",
    "paired_interval",
    "percentile_interval",
    "rate_interval",
    "resample_counts",
    "resampled_mean",
    "sign_flip",
    "too_narrow",
    "wilson",
    "wilson_of_share",
]
