"""Suites of the project's own: ordinary requests, contrast requests, loss on benign answers.

Ordinary requests that nobody should refuse: held-out Magpie instructions and everyday requests of our own.

Harmless requests that sound harmful, written for this project: the held-out part.

Does it still talk as before? How likely the model finds SmolLM2's own answers to held-out benign instructions.
"""

from functools import cache

from unsay.data.sources import magpie, written
from unsay.data.splits import split
from unsay.records import Kind, Modality, Prompt, SourceRow
from unsay.suites.base import Setting, Suite, sample

LONGEST = 120
"""Characters: longer instructions do not fit on the pocket VLM's 224-pixel images in letters it can read."""
ORDINARY_HELD_OUT = 0.1


def magpie_halves() -> tuple[list[SourceRow], list[SourceRow]]:
    """Magpie as (train, held out)."""
    train, held_out = _magpie()
    return list(train), list(held_out)


@cache
def _magpie() -> tuple[tuple[SourceRow, ...], tuple[SourceRow, ...]]:
    """Thousands of packaged rows, which several suites of a run share."""
    train, held_out = split(magpie.load(), salt="magpie", test_share=ORDINARY_HELD_OUT / 10)
    return tuple(train), tuple(held_out)


def plain_halves() -> tuple[list[SourceRow], list[SourceRow]]:
    """The everyday requests as (train, held out)."""
    return split(written.plain(), salt="plain", test_share=2 * ORDINARY_HELD_OUT)


def _benign_prompts(setting: Setting) -> list[Prompt]:
    """Half and half from the two sources; the first has one more where the limit is odd."""
    limit = setting.limit
    halves = (None, None) if limit is None else ((limit + 1) // 2, limit // 2)
    rows = []
    for held_out, half in zip((plain_halves()[1], magpie_halves()[1]), halves, strict=True):
        short = [row for row in held_out if len(row.text) <= LONGEST]
        rows += [short[index] for index in sample([row.text for row in short], half)]
    return [BENIGN.row(row.text, category=row.source) for row in rows]


BENIGN = Suite(
    name="benign",
    title="Benign requests",
    kind=Kind.BENIGN,
    modality=Modality.TEXT,
    source="held-out Magpie instructions of SmolLM2 and everyday requests written for unsay",
    licence="Apache-2.0",
    prompts=_benign_prompts,
    size=180,
)


CONTRAST_HELD_OUT = 0.15


def contrast_halves() -> tuple[list[SourceRow], list[SourceRow]]:
    """The contrast prompts as (train, held out)."""
    return split(written.contrast(), salt="contrast", test_share=CONTRAST_HELD_OUT)


def _contrast_prompts(setting: Setting) -> list[Prompt]:
    _, held_out = contrast_halves()
    chosen = sample([row.text for row in held_out], setting.limit, [row.category for row in held_out])
    return [CONTRAST.row(held_out[index].text, category=held_out[index].category) for index in chosen]


CONTRAST = Suite(
    name="contrast",
    title="Harmless but alarming",
    kind=Kind.BENIGN,
    modality=Modality.TEXT,
    source="contrast prompts written for unsay, held-out part",
    licence="Apache-2.0",
    prompts=_contrast_prompts,
    size=306,
)


def _answer_loss_prompts(setting: Setting) -> list[Prompt]:
    rows = [row for row in magpie_halves()[1] if row.answers]
    chosen = sample([row.text for row in rows], setting.limit)
    return [ANSWER_LOSS.row(rows[index].text, reference=rows[index].answers[0]) for index in chosen]


ANSWER_LOSS = Suite(
    name="answer-loss",
    title="Loss on benign answers",
    kind=Kind.UTILITY,
    modality=Modality.TEXT,
    source="held-out Magpie pairs of SmolLM2",
    licence="Apache-2.0",
    prompts=_answer_loss_prompts,
    size=93,
    likelihood=True,
)
