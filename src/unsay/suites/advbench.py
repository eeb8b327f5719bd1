"""AdvBench (Zou et al. 2023, arXiv 2307.15043): the half of its goals that training never sees."""

from unsay.data.sources import advbench
from unsay.data.splits import split
from unsay.records import Kind, Modality, Prompt, SourceRow
from unsay.suites.base import Setting, Suite, sample


def halves() -> tuple[list[SourceRow], list[SourceRow]]:
    """AdvBench as (train, held out), split by prompt; the train half holds no near duplicate of a held-out goal."""
    return split(advbench.load(), salt="advbench")


def _prompts(setting: Setting) -> list[Prompt]:
    _, held_out = halves()
    chosen = sample([row.text for row in held_out], setting.limit, [row.category for row in held_out])
    return [SUITE.row(held_out[index].text, category=held_out[index].category) for index in chosen]


SUITE = Suite(
    name="advbench",
    title="AdvBench held out",
    kind=Kind.ATTACK,
    modality=Modality.TEXT,
    source="AdvBench, held-out half, from the PyRIT wheel",
    licence="MIT",
    prompts=_prompts,
    size=255,
)
