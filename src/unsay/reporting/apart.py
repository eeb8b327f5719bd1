"""Two models that were evaluated apart and are compared: what they are called."""

from typing import NamedTuple

from unsay.records import Phase
from unsay.scoring import Scores


class Apart(NamedTuple):
    """The names of the two."""

    before: str
    after: str


def apart(scores: Scores) -> Apart | None:
    """Their names where the scores are a comparison's (`unsay compare`); None where one run asked both, or one."""
    sides = [scores.settings.get(phase.value) for phase in Phase]
    names = [str(side["name"]) for side in sides if isinstance(side, dict) and "name" in side]
    return Apart(*names) if len(names) == len(Phase) else None
