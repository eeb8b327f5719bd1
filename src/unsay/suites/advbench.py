"""AdvBench (Zou et al. 2023, arXiv 2307.15043): the half of its goals that training never sees."""

from unsay.data.sources import wheels
from unsay.data.splits import split
from unsay.records import Kind, Modality, SourceRow
from unsay.suites.base import Suite, plain_items


def halves() -> tuple[list[SourceRow], list[SourceRow]]:
    """AdvBench as (train, held out), split by prompt; the train half holds no near duplicate of a held-out goal."""
    return split(wheels.advbench(), salt="advbench")


SUITE = Suite(
    name="advbench",
    title="AdvBench held out",
    kind=Kind.ATTACK,
    modality=Modality.TEXT,
    source="AdvBench, held-out half, from the PyRIT wheel",
    licence="MIT",
    items=lambda: plain_items(halves()[1]),
    size=255,
)
