"""Guard models: other models that were trained to say whether an answer is harmful."""

from unsay.judging.guard.formats import GUARDS, Guard, GuardFinding
from unsay.judging.guard.judge import GuardJudge, combine

__all__ = ["GUARDS", "Guard", "GuardFinding", "GuardJudge", "combine"]
