"""Studies: arms side by side at equal budgets.

`settings` reads a study file, `study_plan` lists its runs, and `runner` does them: each is a `job`, which `launch`
starts, unless it is `known` from elsewhere. `ranking` pools the seeds of arms and compares them, `collect` makes
`study.json` (`schema`), and `page` with its `figure`, `tables` and `words` show it.
"""

from unsay.studies.known import read_runs
from unsay.studies.launch import launcher
from unsay.studies.runner import run_study
from unsay.studies.schema import StudyResult, read_result
from unsay.studies.settings import StudySettings, packaged, read_study

__all__ = [
    "StudyResult",
    "StudySettings",
    "launcher",
    "packaged",
    "read_result",
    "read_runs",
    "read_study",
    "run_study",
]
