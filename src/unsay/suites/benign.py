"""Harmless requests: ordinary ones, ones that sound harmful, and how likely the model finds SmolLM2's answers.

`benign`: ordinary requests that nobody should refuse, held out of Magpie and of the everyday requests written for
unsay. `contrast`: harmless requests that sound harmful, the held-out part. `answer-loss`: does the model still talk as
before? The loss on SmolLM2's own answers to held-out Magpie instructions.
"""

from unsay.data.sources import halves
from unsay.records import Kind, Modality, Prompt
from unsay.suites.base import Item, Setting, Suite, plain_items, sample

LONGEST = 120
"""Characters: longer instructions do not fit on the pocket VLM's 224-pixel images in letters it can read."""


def _ordinary(suite: Suite, setting: Setting) -> list[Prompt]:
    """Half and half from the two sources; the first has one more where the limit is odd."""
    limit = setting.limit
    limits = (None, None) if limit is None else ((limit + 1) // 2, limit // 2)
    rows = []
    for held_out, half in zip((halves.plain()[1], halves.magpie()[1]), limits, strict=True):
        short = [row for row in held_out if len(row.text) <= LONGEST]
        rows += [short[index] for index in sample([row.text for row in short], half)]
    return [suite.row(Item(row.text, category=row.source)) for row in rows]


def _answered() -> list[Item]:
    rows = (row for row in halves.magpie()[1] if row.answers)
    return [Item(row.text, reference=row.answers[0], unit=row.text) for row in rows]


BENIGN = Suite(
    name="benign",
    title="Benign requests",
    kind=Kind.BENIGN,
    modality=Modality.TEXT,
    source="held-out Magpie instructions of SmolLM2 and everyday requests written for unsay",
    licence="Apache-2.0",
    build=_ordinary,
    size=180,
)
CONTRAST = Suite(
    name="contrast",
    title="Harmless but alarming",
    kind=Kind.BENIGN,
    modality=Modality.TEXT,
    source="contrast prompts written for unsay, held-out part",
    licence="Apache-2.0",
    items=lambda: plain_items(halves.contrast()[1]),
    size=927,
    version=2,
    borderline=True,
)
ANSWER_LOSS = Suite(
    name="answer-loss",
    title="Loss on benign answers",
    kind=Kind.UTILITY,
    modality=Modality.TEXT,
    source="held-out Magpie pairs of SmolLM2",
    licence="Apache-2.0",
    items=_answered,
    size=93,
    likelihood=True,
)
