"""Five-way verdicts on responses, and how far to trust them.

A new judge is one new file and one entry in `JUDGES` (`registry.py`). Judges are built lazily: naming one imports it.
"""

from unsay.judging.judge import Judge, Pair, judge_all
from unsay.judging.registry import JUDGES, JudgeEntry, build_judge, judge_settings

__all__ = ["JUDGES", "Judge", "JudgeEntry", "Pair", "build_judge", "judge_all", "judge_settings"]
