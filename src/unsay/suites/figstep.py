"""FigStep (Gong et al. 2023, arXiv 2311.05608): SafeBench's questions in words and in the authors' pictures."""

from unsay.data.sources import figstep
from unsay.records import Kind, Modality, Prompt
from unsay.suites.base import Setting, Suite, sample
from unsay.suites.drawing import FIGSTEP


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
