"""Rates, intervals, paired tests and transfer."""

from unsay.scoring.pairing import unasked, unseen
from unsay.scoring.schema import (
    Accuracy,
    AskedRow,
    Caution,
    Change,
    CostRow,
    ErrorRates,
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
from unsay.scoring.targets import check_targets
from unsay.scoring.transfer import rogan_gladen, transfer
from unsay.scoring.utility import break_down, compare_utility

__all__ = [
    "Accuracy",
    "AskedRow",
    "Caution",
    "Change",
    "CostRow",
    "ErrorRates",
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
    "compare",
    "compare_utility",
    "parts",
    "read_scores",
    "rogan_gladen",
    "score_suite",
    "score_utility",
    "transfer",
    "unasked",
    "unseen",
    "weighted_mean",
    "write_scores",
]
