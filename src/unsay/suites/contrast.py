"""Harmless requests that sound harmful, written for this project: the held-out part."""

from unsay.data import written
from unsay.data.splits import split
from unsay.records import Kind, Modality, Prompt, SourceRow
from unsay.suites.base import Setting, Suite, sample

HELD_OUT = 0.15


def halves() -> tuple[list[SourceRow], list[SourceRow]]:
    """The contrast prompts as (train, held out)."""
    return split(written.contrast(), salt="contrast", test_share=HELD_OUT)


def _prompts(setting: Setting) -> list[Prompt]:
    _, held_out = halves()
    chosen = sample([row.text for row in held_out], setting.limit, [row.category for row in held_out])
    return [SUITE.row(held_out[index].text, category=held_out[index].category) for index in chosen]


SUITE = Suite(
    name="contrast",
    title="Harmless but alarming",
    kind=Kind.BENIGN,
    modality=Modality.TEXT,
    source="contrast prompts written for unsay, held-out part",
    licence="Apache-2.0",
    prompts=_prompts,
    size=306,
)
