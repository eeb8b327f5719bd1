"""OKTest (Shi et al. 2024, arXiv 2401.17633): safe questions that hold harmful words."""

from unsay.data.sources.published import github
from unsay.data.sources.reading import csv_rows, text_field
from unsay.records import Kind, Modality
from unsay.suites.base import Suite
from unsay.suites.listing import Item, listed

REPOSITORY = "InvokerStark/OverKill"
FILE = github("oktest/OKTest.csv", REPOSITORY, "51809bb9e7c029d7cc1247389e0578da92e784e2", "data/OKTest.csv")


def items() -> list[Item]:
    """The questions.

    Raises:
        UserError: the file cannot be had, or is malformed.
    """
    path = FILE.find()
    return [Item(text=text_field(row["prompt"], path, "prompt", line)) for line, row in csv_rows(path, ("prompt",))]


SUITE: Suite = Suite(
    name="oktest",
    title="OKTest",
    kind=Kind.BENIGN,
    modality=Modality.TEXT,
    source=f"OKTest, github.com/{REPOSITORY}",
    licence="none stated",
    prompts=lambda setting: listed(SUITE, items(), setting),
    size=300,
    files=(FILE,),
)
