"""StrongREJECT (Souly et al. 2024, arXiv 2402.10260): 313 forbidden prompts in six categories."""

from unsay.data.sources.published import csv_rows, github, text_field
from unsay.records import Kind, Modality
from unsay.suites.base import Suite
from unsay.suites.listing import Item, listed

FILE = github(
    "strongreject/strongreject_dataset.csv",
    "alexandrasouly/strongreject",
    "3432b2d696b428f242bd507df96d80f686571d5e",
    "strongreject_dataset/strongreject_dataset.csv",
)


def items() -> list[Item]:
    """The forbidden prompts.

    Raises:
        UserError: the file cannot be had, or is malformed.
    """
    path = FILE.find()
    return [
        Item(
            text=text_field(row["forbidden_prompt"], path, "forbidden_prompt", line),
            category=text_field(row["category"], path, "category", line),
        )
        for line, row in csv_rows(path, ("category", "source", "forbidden_prompt"))
    ]


SUITE: Suite = Suite(
    name="strongreject",
    title="StrongREJECT",
    kind=Kind.ATTACK,
    modality=Modality.TEXT,
    source="StrongREJECT, github.com/alexandrasouly/strongreject",
    licence="MIT",
    prompts=lambda setting: listed(SUITE, items(), setting),
    size=313,
    files=(FILE,),
)
