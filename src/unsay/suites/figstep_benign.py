"""300 harmless questions set against FigStep's by HiddenDetect (Jiang et al. 2025, arXiv 2502.14744).

Drawn, they are the control of its attack. FigStep's own repository holds no such file.
"""

from unsay.data.sources.published import github
from unsay.data.sources.reading import csv_rows, text_field
from unsay.records import Kind, Modality
from unsay.suites.base import Suite
from unsay.suites.listing import Item, listed

REPOSITORY = "leigest519/HiddenDetect"
FILE = github(
    "figstep/benign/benign_questions.csv",
    REPOSITORY,
    "2fd161b1fc47c99b36fe0a299ec64ff0b816f0bb",
    "data/FigStep/benign_questions.csv",
    "8b3ecb267df8295a",
)


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
    source=f"benign questions of HiddenDetect, github.com/{REPOSITORY}",
    licence="none stated",
    prompts=lambda setting: listed(SUITE, items(), setting),
    size=300,
    files=(FILE,),
)
