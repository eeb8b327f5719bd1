"""One suite after the other, by category and by type of picture."""

from collections.abc import Iterable
from dataclasses import dataclass

from unsay.records import Kind, Phase
from unsay.reporting import numbers
from unsay.reporting.pieces import by_piece, piece_of
from unsay.scoring import PartRow, Scores, SuiteRow


@dataclass(frozen=True)
class Line:
    """One part of a suite, before and after; texts for the page."""

    part: str
    n: str
    before: str
    after: str


@dataclass(frozen=True)
class Detail:
    """What the page says of one suite beyond its rate."""

    title: str
    notes: tuple[str, ...]
    tables: tuple[tuple[str, tuple[Line, ...]], ...]
    """(`category` or `image type`, lines)."""


def details(scores: Scores) -> list[Detail]:
    """Every attack and benign suite: its condition, its repeats, what so few answers can show, and its parts."""
    found = []
    for piece, phases in by_piece(scores.rows).items():
        row = next(iter(phases.values()))
        parts = [part for part in scores.parts if piece_of(part) == piece]
        tables = []
        for by in dict.fromkeys(part.by for part in parts):
            of_this = [part for part in parts if part.by == by]
            tables.append((str(by), tuple(_line(name, of_this) for name in dict.fromkeys(p.part for p in of_this))))
        found.append(Detail(row.title, tuple(_notes(row)), tuple(tables)))
    return found


def _line(name: str, parts: Iterable[PartRow]) -> Line:
    phases = {part.phase: part for part in parts if part.part == name}
    first = next(iter(phases.values()))
    distinct = f" ({first.unique} distinct)" if first.unique < first.n else ""
    return Line(name, f"{first.n}{distinct}", _cell(phases.get(Phase.BEFORE)), _cell(phases.get(Phase.AFTER)))


def _cell(part: PartRow | None) -> str:
    if part is None:
        return numbers.DASH
    return f"{numbers.percent(part.rate)} ({numbers.span(part.interval)})" if part.interval else numbers.DASH


def _notes(row: SuiteRow) -> Iterable[str]:
    yield f"Condition: {row.condition}."
    if row.unique < row.n:
        wordings = f" in {row.texts} wordings" if row.texts is not None else ""
        yield f"{row.n} prompts are {row.unique} distinct requests{wordings}; the interval redraws requests."
    if row.judged and row.detectable is not None:
        way = "drop" if row.kind is Kind.ATTACK else "rise"
        yield (
            f"With {row.judged} answers, another model on as many prompts would show a {way} of "
            f"{numbers.percent(row.detectable, 0)} or more (Fisher's exact test, 80% power)."
        )
