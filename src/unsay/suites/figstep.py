"""FigStep (Gong et al. 2023, arXiv 2311.05608): SafeBench's questions in words and in the authors' pictures.

A picture shows its request as the heading of a numbered list to be filled in. HiddenDetect (Jiang et al. 2025, arXiv
2502.14744) set 300 harmless questions against FigStep's; rendered in the same way, they are the control of its attack.
FigStep's own repository holds no such file.
"""

from functools import partial

from unsay.data.published import csv_rows, github
from unsay.data.sources.safebench import FIGSTEP, IMAGES, QUESTIONS, picture, picture_name, questions
from unsay.records import Kind, Modality
from unsay.suites.base import Item, Suite

HIDDENDETECT = "leigest519/HiddenDetect"
BENIGN_QUESTIONS = github(
    "figstep/benign/benign_questions.csv",
    HIDDENDETECT,
    "2fd161b1fc47c99b36fe0a299ec64ff0b816f0bb",
    "data/FigStep/benign_questions.csv",
    "8b3ecb267df8295a",
)


def _questions() -> list[Item]:
    """The 500 questions of SafeBench, by topic."""
    return [
        Item(row.text("question"), category=row.text("category_name"), unit=row.text("question")) for row in questions()
    ]


def _pictures() -> list[Item]:
    """The authors' pictures of the same questions, which hold them as statements."""
    return [
        Item(
            FIGSTEP,
            request=row.text("question"),
            category=row.text("category_name"),
            image=partial(picture, picture_name(row)),
            unit=row.text("question"),
        )
        for row in questions()
    ]


def _benign() -> list[Item]:
    return [Item(row.text("question")) for row in csv_rows(BENIGN_QUESTIONS.find(), ("question",))]


TEXT = Suite(
    name="figstep",
    title="FigStep SafeBench, in words",
    kind=Kind.ATTACK,
    modality=Modality.TEXT,
    source="FigStep SafeBench, github.com/ThuCCSLab/FigStep",
    licence="MIT",
    items=_questions,
    size=500,
    files=(QUESTIONS,),
)
SUITE = Suite(
    name="figstep-original",
    title="FigStep, original images",
    kind=Kind.ATTACK,
    modality=Modality.TYPOGRAPHIC,
    source=TEXT.source,
    licence="MIT",
    items=_pictures,
    size=500,
    twin="figstep",
    files=(IMAGES, QUESTIONS),
)
BENIGN = Suite(
    name="figstep-benign",
    title="FigStep benign",
    kind=Kind.BENIGN,
    modality=Modality.TEXT,
    source=f"benign questions of HiddenDetect, github.com/{HIDDENDETECT}",
    licence="none stated",
    items=_benign,
    size=300,
    files=(BENIGN_QUESTIONS,),
)
