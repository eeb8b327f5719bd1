"""From verdicts to `scores.json`: rates, changes, utility, transfer, targets and cautions.

- `schema`: every field of `scores.json`.
- `rates`, `utility`: numbers of judged suites and of utility suites, in one phase and before against after.
- `transfer`, `correction`: text against image twins; rates corrected for the judge's errors.
- `targets`, `cautions`: limits set before the run, and what a reader must know.
- `assemble`: all of it, as one `Scores`.
- `subsets`, `pairing`: which prompts have a number of their own, and which rows belong to which prompt.
"""

from unsay.scoring.assemble import assemble
from unsay.scoring.cautions import blind_judge_cautions, cautions, coverage_cautions
from unsay.scoring.correction import corrected, rogan_gladen
from unsay.scoring.pairing import by_id
from unsay.scoring.rates import break_down, compare_suite, score_suite
from unsay.scoring.schema import (
    Accuracy,
    Caution,
    Change,
    CostRow,
    ErrorRates,
    JudgeInfo,
    PartRow,
    Scores,
    SuiteCoverage,
    SuiteRow,
    Target,
    TargetResult,
    TransferRow,
    UtilityChange,
    UtilityRow,
    read_scores,
    write_scores,
)
from unsay.scoring.subsets import is_control, split_suite
from unsay.scoring.targets import check_targets
from unsay.scoring.transfer import transfer
from unsay.scoring.utility import compare_utility, score_utility, weighted_mean

__all__ = [
    "Accuracy",
    "Caution",
    "Change",
    "CostRow",
    "ErrorRates",
    "JudgeInfo",
    "PartRow",
    "Scores",
    "SuiteCoverage",
    "SuiteRow",
    "Target",
    "TargetResult",
    "TransferRow",
    "UtilityChange",
    "UtilityRow",
    "assemble",
    "blind_judge_cautions",
    "break_down",
    "by_id",
    "cautions",
    "check_targets",
    "compare_suite",
    "compare_utility",
    "corrected",
    "coverage_cautions",
    "is_control",
    "read_scores",
    "rogan_gladen",
    "score_suite",
    "score_utility",
    "split_suite",
    "transfer",
    "weighted_mean",
    "write_scores",
]
