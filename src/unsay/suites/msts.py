"""MSTS (Röttger et al. 2025, arXiv 2501.10057): the English prompts with their pictures put into words."""

from unsay.data.published import csv_rows, github
from unsay.records import Kind, Modality
from unsay.suites.base import Item, Suite

REPOSITORY = "paul-rottger/msts-multimodal-safety"
FILE = github(
    "msts/english_textonly.csv",
    REPOSITORY,
    "af66913e67406d8dfbbc82412924d992e5e96018",
    "data/prompts/english_textonly.csv",
)


def _items() -> list[Item]:
    rows = csv_rows(FILE.find(), ("hazard_category", "prompt_id", "prompt_text"))
    return [Item(row.text("prompt_text"), category=row.text("hazard_category"), key=row["prompt_id"]) for row in rows]


SUITE = Suite(
    name="msts",
    title="MSTS, text only",
    kind=Kind.ATTACK,
    modality=Modality.TEXT,
    source=f"MSTS, github.com/{REPOSITORY}",
    licence="CC BY 4.0",
    items=_items,
    size=400,
    files=(FILE,),
)
