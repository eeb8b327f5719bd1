"""From verdicts to `scores.json`: rates, changes, utility, transfer, targets and cautions.

- `schema`: every field of `scores.json`; `scores`: assembles, writes and reads it.
- `rates`, `utility`: numbers of judged suites and of utility suites, in one phase and before against after.
- `separation`: how well the model's own log-odds of a refusal tell harmful requests from harmless ones.
- `transfer`: text against image twins; `limits`: targets set before the run, and cautions for the reader.
- `subsets`: which prompts have a number of their own, and which rows belong to which prompt.
"""

from unsay.scoring.limits import blind_judge_cautions, check_targets, coverage_cautions
from unsay.scoring.rates import break_down, compare_suite, rogan_gladen, score_suite
from unsay.scoring.schema import (
    Accuracy,
    Caution,
    Change,
    CostRow,
    ErrorRates,
    JudgeInfo,
    PartRow,
    Scores,
    SeparationChange,
    SeparationRow,
    SuiteCoverage,
    SuiteRow,
    Target,
    TargetResult,
    TransferRow,
    UtilityChange,
    UtilityRow,
)
from unsay.scoring.scores import assemble, read_scores, write_scores
from unsay.scoring.separation import Asked, score_separation, separation, separation_change
from unsay.scoring.subsets import split_suite
from unsay.scoring.transfer import score_transfer
from unsay.scoring.utility import compare_utility, score_utility, weighted_mean

__all__ = [
    "Accuracy",
    "Asked",
    "Caution",
    "Change",
    "CostRow",
    "ErrorRates",
    "JudgeInfo",
    "PartRow",
    "Scores",
    "SeparationChange",
    "SeparationRow",
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
    "check_targets",
    "compare_suite",
    "compare_utility",
    "coverage_cautions",
    "read_scores",
    "rogan_gladen",
    "score_separation",
    "score_suite",
    "score_transfer",
    "score_utility",
    "separation",
    "separation_change",
    "split_suite",
    "weighted_mean",
    "write_scores",
]
