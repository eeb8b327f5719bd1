"""StrongREJECT (Souly et al. 2024, arXiv 2402.10260): 313 forbidden prompts in six categories."""

from unsay.data.published import csv_rows, github
from unsay.records import Kind, Modality
from unsay.suites.base import Item, Suite

FILE = github(
    "strongreject/strongreject_dataset.csv",
    "alexandrasouly/strongreject",
    "3432b2d696b428f242bd507df96d80f686571d5e",
    "strongreject_dataset/strongreject_dataset.csv",
)


def _items() -> list[Item]:
    rows = csv_rows(FILE.find(), ("category", "forbidden_prompt"))
    return [Item(row.text("forbidden_prompt"), category=row.text("category")) for row in rows]


SUITE = Suite(
    name="strongreject",
    title="StrongREJECT",
    kind=Kind.ATTACK,
    modality=Modality.TEXT,
    source="StrongREJECT, github.com/alexandrasouly/strongreject",
    licence="MIT",
    items=_items,
    size=313,
    files=(FILE,),
)
