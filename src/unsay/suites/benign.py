"""Ordinary requests that nobody should refuse: held-out Magpie instructions and everyday requests of our own."""

from functools import cache

from unsay.data import written
from unsay.data.sources import magpie
from unsay.data.splits import split
from unsay.records import Kind, Modality, Prompt, SourceRow
from unsay.suites.base import Setting, Suite, sample

LONGEST = 120
"""Characters: longer instructions do not fit on the pocket VLM's 224-pixel images in letters it can read."""
HELD_OUT = 0.1


def magpie_halves() -> tuple[list[SourceRow], list[SourceRow]]:
    """Magpie as (train, held out)."""
    train, held_out = _magpie()
    return list(train), list(held_out)


@cache
def _magpie() -> tuple[tuple[SourceRow, ...], tuple[SourceRow, ...]]:
    """Thousands of packaged rows, which several suites of a run share."""
    train, held_out = split(magpie.load(), salt="magpie", test_share=HELD_OUT / 10)
    return tuple(train), tuple(held_out)


def plain_halves() -> tuple[list[SourceRow], list[SourceRow]]:
    """The everyday requests as (train, held out)."""
    return split(written.plain(), salt="plain", test_share=2 * HELD_OUT)


def _prompts(setting: Setting) -> list[Prompt]:
    """Half and half from the two sources; the first has one more where the limit is odd."""
    limit = setting.limit
    halves = (None, None) if limit is None else ((limit + 1) // 2, limit // 2)
    rows = []
    for held_out, half in zip((plain_halves()[1], magpie_halves()[1]), halves, strict=True):
        short = [row for row in held_out if len(row.text) <= LONGEST]
        rows += [short[index] for index in sample([row.text for row in short], half)]
    return [SUITE.row(row.text, category=row.source) for row in rows]


SUITE = Suite(
    name="benign",
    title="Benign requests",
    kind=Kind.BENIGN,
    modality=Modality.TEXT,
    source="held-out Magpie instructions of SmolLM2 and everyday requests written for unsay",
    licence="Apache-2.0",
    prompts=_prompts,
    size=180,
)
