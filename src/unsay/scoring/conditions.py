"""Which rows are controls: the same words beside a picture that is not theirs, or without the one that is."""

from typing import Protocol

from unsay.records import Condition, Modality


class Shown(Protocol):
    """Anything that says what was shown beside the words: prompts, rows of scores, changes."""

    @property
    def modality(self) -> Modality:
        """How the request reaches the model."""
        ...

    @property
    def condition(self) -> Condition:
        """What was shown."""
        ...


def is_control(row: Shown) -> bool:
    """Whether it was asked in another way than it is meant: a text suite without a picture, others with their own.

    A control has rows and a table of its own. It is pooled with nothing, for it is asked to explain another number.
    """
    return row.condition is not (Condition.NO_IMAGE if row.modality is Modality.TEXT else Condition.REAL)
