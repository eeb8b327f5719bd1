"""AdvBench (Zou et al. 2023, arXiv 2307.15043): the half of its goals that training never sees."""

from unsay.data.sources import halves
from unsay.records import Kind, Modality
from unsay.suites.base import Suite, plain_items

SUITE = Suite(
    name="advbench",
    title="AdvBench held out",
    kind=Kind.ATTACK,
    modality=Modality.TEXT,
    source="AdvBench, held-out half, from the PyRIT wheel",
    licence="MIT",
    items=lambda: plain_items(halves.advbench()[1]),
    size=255,
)
