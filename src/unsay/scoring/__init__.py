"""Rates, intervals, paired tests and transfer."""

from unsay.scoring.asked import unasked, unseen
from unsay.scoring.bootstrap import Estimate, clustered_mean
from unsay.scoring.breakdown import break_down
from unsay.scoring.correction import rogan_gladen
from unsay.scoring.holm import holm
from unsay.scoring.intervals import independent, mean_interval, rate_interval
from unsay.scoring.paired import (
    clustered_change,
    detectable_change,
    difference_interval,
    mcnemar,
    paired_interval,
)
from unsay.scoring.power import detectable_difference
from unsay.scoring.schema import (
    Accuracy,
    AskedRow,
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
    UtilityChange,
    UtilityRow,
    read_scores,
    write_scores,
)
from unsay.scoring.score import assemble, compare, parts, score_suite, score_utility, weighted_mean
from unsay.scoring.sign_flip import sign_flip
from unsay.scoring.targets import check_targets
from unsay.scoring.transfer import transfer
from unsay.scoring.utility import compare_utility
from unsay.scoring.wilson import wilson

__all__ = [
    "Accuracy",
    "AskedRow",
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
    "UtilityChange",
    "UtilityRow",
    "assemble",
    "break_down",
    "check_targets",
    "clustered_change",
    "clustered_mean",
    "compare",
    "compare_utility",
    "detectable_change",
    "detectable_difference",
    "difference_interval",
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
    "sign_flip",
    "transfer",
    "unasked",
    "unseen",
    "weighted_mean",
    "wilson",
    "write_scores",
]
