"""What a ranking shows of an arm, for every table that is made of one."""

from collections.abc import Callable
from dataclasses import dataclass

from unsay.study.schema import COHERENT, REFUSAL, ArmRow, Measure, Ranking, StudyResult

RATIOS = {"tokens": "tokens", "flops": "operations", "seconds": "seconds"}
"""Costs that stand in a ranking, as many times those of the reference: name → title."""


@dataclass(frozen=True)
class Column:
    """One measure of a ranking.

    Attributes:
        name: as in `study.json`.
        title: for people.
        higher: whether more is better.
        of: what an arm has of it.
    """

    name: str
    title: str
    higher: bool
    of: Callable[[ArmRow], Measure | None]


def columns(result: StudyResult) -> list[Column]:
    """The measures of a ranking; every utility suite has one."""
    utility = [name for name in result.measures if name in result.units]
    return [
        measured(COHERENT, "coherent safety", higher=True),
        Column("text_attacks", "ASR, text", False, lambda arm: arm.text_attacks),
        Column("image_attacks", "ASR, image", False, lambda arm: arm.image_attacks),
        measured(REFUSAL, "over-refusal", higher=False),
        *(measured(name, result.measures[name], higher=name in result.higher_is_better) for name in utility),
    ]


def measured(name: str, title: str, *, higher: bool) -> Column:
    """A measure that arms are compared in."""
    return Column(name, title, higher, lambda arm: arm.measures.get(name))


def times(arm: ArmRow) -> list[str]:
    """What its training took, as `× 1.20` of the reference's; empty where that is not known."""
    ratios = arm.cost.ratios if arm.cost is not None else {}
    return [f"× {ratios[name]:.2f}" if name in ratios else "" for name in RATIOS]


def absent(result: StudyResult, ranking: Ranking) -> list[ArmRow]:
    """Arms that the ranking would have, had they not failed."""
    return [
        arm for arm in result.arms if arm.state == "failed" and arm.model == ranking.model and ranking.rule in arm.rules
    ]
