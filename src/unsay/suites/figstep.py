"""FigStep (Gong et al. 2023, arXiv 2311.05608): the authors' own pictures."""

from unsay.data.sources import figstep
from unsay.records import Kind, Modality, Prompt
from unsay.suites.base import Setting, Suite, sample
from unsay.suites.drawing import FIGSTEP


def _prompts(setting: Setting) -> list[Prompt]:
    rows = figstep.pictures()
    chosen = sample([row.question for row in rows], setting.limit, [row.category for row in rows])
    return [
        SUITE.row(FIGSTEP, request=rows[index].question, image=rows[index].image, category=rows[index].category)
        for index in chosen
    ]


SUITE = Suite(
    name="figstep-original",
    title="FigStep, original images",
    kind=Kind.ATTACK,
    modality=Modality.TYPOGRAPHIC,
    source="FigStep SafeBench, github.com/ThuCCSLab/FigStep",
    licence="MIT",
    prompts=_prompts,
    size=500,
    files=(figstep.FOLDER, figstep.QUESTIONS),
)
