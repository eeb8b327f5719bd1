"""FigStep (Gong et al. 2023, arXiv 2311.05608), and the benign questions of HiddenDetect.

FigStep (Gong et al. 2023, arXiv 2311.05608): SafeBench's questions in words and in the authors' pictures.

300 harmless questions set against FigStep's by HiddenDetect (Jiang et al. 2025, arXiv 2502.14744).

Drawn, they are the control of its attack. FigStep's own repository holds no such file.
"""

from unsay.data.sources import figstep
from unsay.data.sources.published import csv_rows, github, text_field
from unsay.records import Kind, Modality, Prompt
from unsay.suites.base import Setting, Suite, sample
from unsay.suites.listing import Item, listed
from unsay.suites.twins import FIGSTEP


def _words(setting: Setting) -> list[Prompt]:
    rows = figstep.load()
    chosen = sample([row.text for row in rows], setting.limit, [row.category for row in rows])
    return [TEXT.row(rows[index].text, category=rows[index].category) for index in chosen]


def _prompts(setting: Setting) -> list[Prompt]:
    """The pictures of the questions that `figstep` asks: they hold the same requests as statements."""
    rows = figstep.pictures()
    chosen = sample([row.question for row in rows], setting.limit, [row.category for row in rows])
    return [
        SUITE.row(FIGSTEP, request=rows[index].question, image=rows[index].image, category=rows[index].category)
        for index in chosen
    ]


TEXT = Suite(
    name="figstep",
    title="FigStep SafeBench, in words",
    kind=Kind.ATTACK,
    modality=Modality.TEXT,
    source="FigStep SafeBench, github.com/ThuCCSLab/FigStep",
    licence="MIT",
    prompts=_words,
    size=500,
    files=(figstep.QUESTIONS,),
)
SUITE = Suite(
    name="figstep-original",
    title="FigStep, original images",
    kind=Kind.ATTACK,
    modality=Modality.TYPOGRAPHIC,
    source="FigStep SafeBench, github.com/ThuCCSLab/FigStep",
    licence="MIT",
    prompts=_prompts,
    size=500,
    twin="figstep",
    files=(figstep.FOLDER, figstep.QUESTIONS),
)


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


BENIGN: Suite = Suite(
    name="figstep-benign",
    title="FigStep benign",
    kind=Kind.BENIGN,
    modality=Modality.TEXT,
    source=f"benign questions of HiddenDetect, github.com/{REPOSITORY}",
    licence="none stated",
    prompts=lambda setting: listed(BENIGN, items(), setting),
    size=300,
    files=(FILE,),
)
