"""What has numbers of its own: a suite, or each part of one that mixes kinds, modalities or conditions."""

from collections.abc import Iterable
from typing import Protocol

from unsay.records import Condition, Kind, Modality, Phase
from unsay.scoring import SuiteRow

Piece = tuple[str, Kind, Modality, Condition]
"""Suite, kind, modality, condition."""


class InPiece(Protocol):
    """Anything that belongs to one: rows, parts, changes, samples."""

    @property
    def suite(self) -> str:
        """The suite's name."""
        ...

    @property
    def kind(self) -> Kind:
        """What it measures."""
        ...

    @property
    def modality(self) -> Modality:
        """How the request reaches the model."""
        ...

    @property
    def condition(self) -> Condition:
        """What was shown beside the words."""
        ...


def piece_of(row: InPiece) -> Piece:
    """The key that is equal for all that belongs together, of both phases."""
    return row.suite, row.kind, row.modality, row.condition


def by_piece(rows: Iterable[SuiteRow]) -> dict[Piece, dict[Phase, SuiteRow]]:
    """The phases of each, in order of first appearance."""
    found: dict[Piece, dict[Phase, SuiteRow]] = {}
    for row in rows:
        found.setdefault(piece_of(row), {})[row.phase] = row
    return found
