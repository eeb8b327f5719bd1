"""MSTS (Röttger et al. 2025, arXiv 2501.10057): the English prompts with their pictures put into words."""

from unsay.data.sources.published import csv_rows, github, text_field
from unsay.records import Kind, Modality
from unsay.suites.base import Suite
from unsay.suites.listing import Item, listed

REPOSITORY = "paul-rottger/msts-multimodal-safety"
FILE = github(
    "msts/english_textonly.csv",
    REPOSITORY,
    "af66913e67406d8dfbbc82412924d992e5e96018",
    "data/prompts/english_textonly.csv",
)


def items() -> list[Item]:
    """The 400 text-only prompts, by hazard category.

    Raises:
        UserError: the file cannot be had, or is malformed.
    """
    path = FILE.find()
    return [
        Item(
            text=text_field(row["prompt_text"], path, "prompt_text", line),
            category=text_field(row["hazard_category"], path, "hazard_category", line),
            key=row["prompt_id"],
        )
        for line, row in csv_rows(path, ("hazard_category", "prompt_id", "prompt_text", "prompt_type"))
    ]


SUITE: Suite = Suite(
    name="msts",
    title="MSTS, text only",
    kind=Kind.ATTACK,
    modality=Modality.TEXT,
    source=f"MSTS, github.com/{REPOSITORY}",
    licence="CC BY 4.0",
    prompts=lambda setting: listed(SUITE, items(), setting),
    size=400,
    files=(FILE,),
)
