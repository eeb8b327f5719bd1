"""A part of a study: some of its arms, for one of many jobs."""

from collections.abc import Sequence

from unsay.errors import UserError
from unsay.study.plan import arms_of, measured_rules, reference_of
from unsay.study.settings import StudySettings


def listed(names: str) -> list[str]:
    """Names, comma-separated, each once."""
    return list(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))


def part(study: StudySettings, names: Sequence[str]) -> StudySettings:
    """The study with these arms alone, and its reference where others have for a budget what that used.

    Runs are those of the whole study, under the same keys, so parts can be put together. A part without the reference
    compares its arms with the first of them.

    Args:
        study: the whole.
        names: arms.

    Raises:
        UserError: none, or an arm that there is not.
    """
    arms, reference = arms_of(study), reference_of(study)
    if not names:
        raise UserError(f"--arms: expected names like {','.join(list(arms)[:2])}")
    if strange := next((name for name in names if name not in arms), None):
        raise UserError(f"--arms: there is no arm '{strange}'; there are {', '.join(arms)}")
    needed = {*names, *([reference] if measured_rules(study) else [])}
    return study.model_copy(
        update={
            "grid": None,
            "arms": {name: arm for name, arm in arms.items() if name in needed},
            "reference": reference if reference in needed else None,
        }
    )
