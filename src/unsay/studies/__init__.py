"""Studies: arms side by side at equal budgets.

`settings` reads a study file, `adjust` applies options to it, and `plan` lists its runs. `run` does them: each is a
`job`, which `launch` starts, unless it is `known` from elsewhere. `pool` pools the seeds of an arm, `compare` tests
pairs of arms, and `collect` makes `study.json` (`schema`) from both. `page`, `tables` and `words` show it.
"""

from unsay.studies.known import read_runs
from unsay.studies.launch import launcher
from unsay.studies.run import run_study
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
