"""FigStep's benign questions (Gong et al. 2023, arXiv 2311.05608); drawn, they are the control of its attack."""

from unsay.data.sources.published import github
from unsay.data.sources.reading import csv_rows, text_field
from unsay.records import Kind, Modality
from unsay.suites.base import Suite
from unsay.suites.listing import Item, listed

REPOSITORY = "ThuCCSLab/FigStep"
FILE = github("figstep/benign/benign_questions.csv", REPOSITORY, "0861b17b", "data/benign/benign_questions.csv")


def items() -> list[Item]:
    """The 300 questions.

    Raises:
        UserError: the file cannot be had, or is malformed.
    """
    path = FILE.find()
    return [
        Item(text=text_field(row["question"], path, "question", line)) for line, row in csv_rows(path, ("question",))
    ]


SUITE: Suite = Suite(
    name="figstep-benign",
    title="FigStep benign",
    kind=Kind.BENIGN,
    modality=Modality.TEXT,
    source=f"FigStep, github.com/{REPOSITORY}",
    licence="MIT",
    prompts=lambda setting: listed(SUITE, items(), setting),
    size=300,
    files=(FILE,),
)
