"""Suites to choose a recipe on: cut from the training sides, so that the suites a report quotes stay unseen.

Whoever tunes on a suite measures the tuning. A run that asks these trains on what is left of the training sides, since
no suite prompt is ever trained on; their kinds, formats and pictures are those of the standard suites. They are asked
by name alone: neither the standard suites nor `all-available` contain them.
"""

from dataclasses import replace
from functools import partial
from typing import Any

from unsay.data.splits import split
from unsay.records import SourceRow
from unsay.suites import advbench, benign, shapes, transcription
from unsay.suites.base import Suite, plain_items


def _cut(rows: list[SourceRow], share: float) -> list[SourceRow]:
    return split(rows, salt="development", test_share=share)[1]


def _harmful() -> list[SourceRow]:
    return _cut(advbench.halves()[0], 0.25)


def _alarming() -> list[SourceRow]:
    return _cut(benign.contrast_halves()[0], 0.08)


def _ordinary() -> list[SourceRow]:
    short = [row for row in benign.magpie_halves()[0] if len(row.text) <= benign.LONGEST]
    return [*_cut(benign.plain_halves()[0], 0.15), *_cut(short, 0.005)]


def _like(standard: Suite, **changes: Any) -> Suite:
    """A suite like a standard one, of other rows."""
    return replace(
        standard,
        name=f"dev-{standard.name}",
        title=f"{standard.title.removesuffix(' held out')} (development)",
        source=f"the training side of {standard.name}",
        size=None,
        **changes,
    )


SUITES: tuple[Suite, ...] = (
    _like(advbench.SUITE, items=lambda: plain_items(_harmful())),
    _like(benign.CONTRAST, items=lambda: plain_items(_alarming())),
    _like(benign.BENIGN, items=lambda: plain_items(_ordinary()), build=None),
    _like(shapes.SUITE, build=partial(shapes.build, "development/shapes")),
    _like(transcription.SUITE, build=partial(transcription.build, _ordinary)),
)
