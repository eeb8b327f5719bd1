"""Suites to choose a recipe on: cut from the training sides, so that the suites a report quotes stay unseen.

Whoever tunes on a suite measures the tuning. A run that asks these trains on what is left of the training sides, for no
suite prompt is ever trained on; their kinds, formats and pictures are those of the standard suites. They are asked by
name alone: neither the standard suites nor `all-available` contain them.
"""

from collections.abc import Callable
from dataclasses import replace

from unsay.data.splits import prompt_key, split
from unsay.records import Prompt, SourceRow
from unsay.suites import advbench, shapes, transcription, written
from unsay.suites.base import Setting, Suite, sample

SALT = "development"


def _cut(rows: list[SourceRow], share: float) -> list[SourceRow]:
    return split(rows, salt=SALT, test_share=share)[1]


def _goals() -> list[SourceRow]:
    return _cut(advbench.halves()[0], 0.25)


def _alarming() -> list[SourceRow]:
    return _cut(written.contrast_halves()[0], 0.08)


def _ordinary() -> list[SourceRow]:
    short = [row for row in written.magpie_halves()[0] if len(row.text) <= written.LONGEST]
    return [*_cut(written.plain_halves()[0], 0.15), *_cut(short, 0.005)]


def _of(standard: Suite, rows: Callable[[], list[SourceRow]]) -> Suite:
    """A suite like a standard one, of other rows."""

    def prompts(setting: Setting) -> list[Prompt]:
        held = rows()
        chosen = sample([row.text for row in held], setting.limit, [row.category or row.source for row in held])
        return [suite.row(held[index].text, category=held[index].category) for index in chosen]

    suite = _named(standard, prompts)
    return suite


def _named(standard: Suite, prompts: Callable[[Setting], list[Prompt]]) -> Suite:
    return replace(
        standard,
        name=f"dev-{standard.name}",
        title=f"{standard.title.removesuffix(' held out')} (development)",
        source=f"the training side of {standard.name}",
        prompts=prompts,
        size=None,
    )


def _scenes(setting: Setting) -> list[Prompt]:
    return shapes.scenes(SHAPES, setting, "development/shapes")


def _sentences(setting: Setting) -> list[Prompt]:
    unique = {prompt_key(row.text): row.text for row in _ordinary()}
    fit = [text for text in unique.values() if transcription.SHORTEST <= len(text) <= transcription.LONGEST]
    return transcription.drawn(TRANSCRIPTION, setting, fit)


SHAPES = _named(shapes.SUITE, _scenes)
TRANSCRIPTION = _named(transcription.SUITE, _sentences)
SUITES: tuple[Suite, ...] = (
    _of(advbench.SUITE, _goals),
    _of(written.CONTRAST, _alarming),
    _of(written.BENIGN, _ordinary),
    SHAPES,
    TRANSCRIPTION,
)
