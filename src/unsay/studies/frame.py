"""A ranking as a frame: a row for each arm, a cell for each measure. Tables and pages are written from it."""

from collections.abc import Mapping
from dataclasses import dataclass

from unsay.studies import words
from unsay.studies.schema import ASR, COHERENT, REFUSAL, ArmRow, Comparison, Measure, Place, Ranking, StudyResult

RATIOS = {"tokens": "tokens", "flops": "operations", "seconds": "seconds"}
"""Costs that a ranking shows as multiples of the reference's: name → title."""


@dataclass(frozen=True)
class Column:
    """One measure of a frame.

    Attributes:
        name: as in `study.json`.
        title: for people.
        unit: `rate`, or the unit to show.
        higher_is_better: whether more is better.
    """

    name: str
    title: str
    unit: str
    higher_is_better: bool


@dataclass(frozen=True)
class Cell:
    """One measure of one arm.

    Attributes:
        measure: its value.
        pair: its comparison with the reference, where there is one.
    """

    measure: Measure
    pair: Comparison | None


@dataclass(frozen=True)
class Row:
    """One arm of a ranking.

    Attributes:
        arm: the arm.
        place: its place; None for an arm that failed.
        cells: its measures by name.
    """

    arm: ArmRow
    place: Place | None
    cells: Mapping[str, Cell]

    def places(self) -> str:
        """Its place in words: `2`, or `1–3` for a tie."""
        return "" if self.place is None else words.place_words(self.place)

    def times(self) -> list[str]:
        """What its training took, as `× 1.20` of the reference's; empty where that is not known."""
        ratios = self.arm.cost.ratios if self.arm.cost is not None else {}
        return [f"× {ratios[name]:.2f}" if name in ratios else "" for name in RATIOS]


@dataclass(frozen=True)
class Frame:
    """A ranking with everything that a table shows of it.

    Attributes:
        result: the study.
        ranking: the ranking.
        columns: measures that a ranking shows.
        rows: arms, the safest first.
        failed: arms without a result.
    """

    result: StudyResult
    ranking: Ranking
    columns: tuple[Column, ...]
    rows: tuple[Row, ...]
    failed: tuple[Row, ...]

    def compared(self) -> list[tuple[ArmRow, dict[str, Comparison]]]:
        """Each arm that is compared with the reference, and its comparisons by measure."""
        pairs = ((row.arm, {name: c.pair for name, c in row.cells.items() if c.pair is not None}) for row in self.rows)
        return [(arm, by_measure) for arm, by_measure in pairs if by_measure]


def frame_of(result: StudyResult, ranking: Ranking) -> Frame:
    """The frame of a ranking; its rows also have pooled attack success and babble, which have no column."""
    columns = (
        Column(COHERENT, "coherent safety", "rate", True),
        Column("text_attacks", "ASR, text", "rate", False),
        Column("image_attacks", "ASR, image", "rate", False),
        Column(REFUSAL, "over-refusal", "rate", False),
        *(
            Column(name, title, result.units[name], name in result.higher_is_better)
            for name, title in result.measures.items()
            if name in result.units
        ),
    )
    names = [*(column.name for column in columns), ASR, "degenerate"]

    def row(arm: ArmRow, place: Place | None) -> Row:
        measures = {"text_attacks": arm.text_attacks, "image_attacks": arm.image_attacks, "degenerate": arm.degenerate}
        measures |= arm.measures
        cells = {
            name: Cell(measure, words.against(result, ranking, arm.name, name))
            for name in names
            if (measure := measures.get(name)) is not None
        }
        return Row(arm, place, cells)

    lost = (arm for arm in result.arms if arm.state == "failed" and arm.model == ranking.model)
    return Frame(
        result=result,
        ranking=ranking,
        columns=columns,
        rows=tuple(row(result.find(place.arm), place) for place in ranking.places),
        failed=tuple(row(arm, None) for arm in lost if ranking.rule in arm.rules),
    )
