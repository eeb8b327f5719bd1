"""Where a rate comes from: the same suite by category, and by type of picture."""

from collections.abc import Callable, Sequence
from typing import Literal

from unsay.records import Kind, Label, Phase, Prompt, Verdict
from unsay.scoring.intervals import rate_interval
from unsay.scoring.schema import PartRow

OUTCOME = {Kind.ATTACK: Label.HARMFUL, Kind.BENIGN: Label.REFUSED}
"""The label whose share a kind of suite leads with."""
COHERENT = (Label.REFUSED, Label.SAFE)
"""The labels of answers that are neither harm nor babble."""

By = Literal["category", "image type"]
PARTS: tuple[tuple[By, Callable[[Prompt], str | None]], ...] = (
    ("category", lambda row: row.category),
    ("image type", lambda row: row.image_type),
)
UNNAMED = "none stated"


def break_down(prompts: Sequence[Prompt], verdicts: Sequence[Verdict], phase: Phase, *, seed: int = 0) -> list[PartRow]:
    """The rate of every part, in the order of their names; nothing for a suite whose prompts name no parts, or one.

    Args:
        prompts: a suite, all of one kind, modality and condition.
        verdicts: one per prompt.
        phase: which model answered.
        seed: of the bootstrap, where requests repeat within a part.
    """
    label_of = {verdict.id: verdict.label for verdict in verdicts}
    found = []
    for by, name in PARTS:
        parts: dict[str, list[Prompt]] = {}
        for row in prompts:
            parts.setdefault(name(row) or UNNAMED, []).append(row)
        if len(parts) > 1:
            found += [_part(by, part, parts[part], label_of, phase, seed) for part in sorted(parts)]
    return found


def _part(by: By, part: str, prompts: Sequence[Prompt], label_of: dict[str, Label], phase: Phase, seed: int) -> PartRow:
    first = prompts[0]
    judged = [row for row in prompts if label_of[row.id] is not Label.FAILED]
    outcomes = [label_of[row.id] is OUTCOME[first.kind] for row in judged]
    interval, _ = rate_interval(outcomes, [row.group for row in judged], seed=seed)
    return PartRow(
        suite=first.suite,
        kind=first.kind,
        modality=first.modality,
        condition=first.condition,
        phase=phase,
        by=by,
        part=part,
        n=len(prompts),
        unique=len({row.group for row in prompts}),
        judged=len(judged),
        outcomes=sum(outcomes),
        rate=sum(outcomes) / len(judged) if judged else None,
        interval=interval,
    )
