"""XSTest (Röttger et al. 2023, arXiv 2308.01263), its safe prompts: the field's measure of over-refusal."""

from unsay.data.sources import xstest
from unsay.records import Kind, Modality, Prompt
from unsay.suites.base import Setting, Suite, sample


def _prompts(setting: Setting) -> list[Prompt]:
    rows = xstest.load_safe()
    chosen = sample([row.text for row in rows], setting.limit, [row.category for row in rows])
    return [SUITE.row(rows[index].text, category=rows[index].category) for index in chosen]


SUITE = Suite(
    name="xstest-safe",
    title="XSTest safe prompts",
    kind=Kind.BENIGN,
    modality=Modality.TEXT,
    source="XSTest, github.com/paul-rottger/exaggerated-safety",
    licence="CC BY 4.0",
    prompts=_prompts,
    size=250,
    files=(xstest.PUBLISHED,),
)
