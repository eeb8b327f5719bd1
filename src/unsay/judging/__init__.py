"""Five-way verdicts on responses, and how far to trust them.

A new judge is one new file and one line in `JUDGES`. Judges are built lazily: naming one imports it.
"""

from collections.abc import Callable
from typing import Any

from unsay.judging.judge import Judge, Pair, judge_all

__all__ = ["JUDGES", "Judge", "Pair", "judge_all"]


def _rules() -> Judge:
    from unsay.judging.rules import RulesJudge

    return RulesJudge()


def _probe(**settings: Any) -> Judge:
    from unsay.judging.probe import ProbeJudge

    return ProbeJudge.default(**settings)


JUDGES: dict[str, Callable[..., Judge]] = {
    "rules": _rules,
    "probe": _probe,
}
"""Every judge by name, and what builds it."""
