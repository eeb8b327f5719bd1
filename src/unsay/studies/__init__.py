"""Arms side by side at equal budgets: runs, paired comparisons, one page."""

from unsay.studies.known import read_kept
from unsay.studies.launch import launcher
from unsay.studies.read import packaged, read_study
from unsay.studies.run import run_study
from unsay.studies.schema import StudyResult, read_result
from unsay.studies.settings import StudySettings

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
