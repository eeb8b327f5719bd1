"""Does it still talk as before? How likely the model finds SmolLM2's own answers to held-out benign instructions."""

from unsay.records import Kind, Modality, Prompt
from unsay.suites import benign
from unsay.suites.base import Setting, Suite, sample


def _prompts(setting: Setting) -> list[Prompt]:
    rows = [row for row in benign.magpie_halves()[1] if row.answers]
    chosen = sample([row.text for row in rows], setting.limit)
    return [SUITE.row(rows[index].text, reference=rows[index].answers[0]) for index in chosen]


SUITE = Suite(
    name="answer-loss",
    title="Loss on benign answers",
    kind=Kind.UTILITY,
    modality=Modality.TEXT,
    source="held-out Magpie pairs of SmolLM2",
    licence="Apache-2.0",
    prompts=_prompts,
    size=93,
    likelihood=True,
)
