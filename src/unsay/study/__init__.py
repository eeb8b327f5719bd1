"""Arms side by side at equal budgets: runs, paired comparisons, one page."""

from unsay.study.kept import read_kept
from unsay.study.launching import launcher
from unsay.study.reading import packaged, read_study
from unsay.study.run import run_study
from unsay.study.schema import StudyResult, read_result
from unsay.study.settings import StudySettings

__all__ = [
    "StudyResult",
    "StudySettings",
    "launcher",
    "packaged",
    "read_kept",
    "read_result",
    "read_study",
    "run_study",
]
