"""Rates, intervals, paired tests and transfer."""

from unsay.scoring.bootstrap import Estimate, clustered_mean
from unsay.scoring.breakdown import break_down
from unsay.scoring.correction import rogan_gladen
from unsay.scoring.holm import holm
from unsay.scoring.intervals import independent, mean_interval, rate_interval, wilson
from unsay.scoring.paired import clustered_change, detectable_change, mcnemar, paired_interval
from unsay.scoring.power import detectable_difference
from unsay.scoring.schema import (
    Accuracy,
    Caution,
    Change,
    CostRow,
    ErrorRates,
    Interval,
    JudgeInfo,
    PartRow,
    Scores,
    SuiteRow,
    Target,
    TargetResult,
    TransferRow,
    UtilityRow,
    read_scores,
    write_scores,
)
from unsay.scoring.score import assemble, compare, parts, score_suite, score_utility
from unsay.scoring.targets import check_targets
from unsay.scoring.transfer import transfer

__all__ = [
    "Accuracy",
    "Caution",
    "Change",
    "CostRow",
    "ErrorRates",
    "Estimate",
    "Interval",
    "JudgeInfo",
    "PartRow",
    "Scores",
    "SuiteRow",
    "Target",
    "TargetResult",
    "TransferRow",
    "UtilityRow",
    "assemble",
    "break_down",
    "check_targets",
    "clustered_change",
    "clustered_mean",
    "compare",
    "detectable_change",
    "detectable_difference",
    "holm",
    "independent",
    "mcnemar",
    "mean_interval",
    "paired_interval",
    "parts",
    "rate_interval",
    "read_scores",
    "rogan_gladen",
    "score_suite",
    "score_utility",
    "transfer",
    "wilson",
    "write_scores",
]
