"""Prompts and refusals written for this project from scratch; they ship in this package under its licence.

Contrast prompts are harmless requests that merely sound harmful. A model that learns to refuse from harmful
prompts alone learns to refuse frightening words; these teach it the difference.
None is taken from XSTest or OR-Bench.
"""

import gzip
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from unsay.data.splits import prompt_key
from unsay.errors import UserError
from unsay.files import read_rows, read_text
from unsay.records import Record, SourceRow

PACKAGED = Path(__file__).with_name("packaged")
"""The folder of the data that ships in this package."""


class _Line(Record):
    """One row of a file in this folder; the source is known from the file, not repeated in it."""

    text: str
    category: str


def contrast() -> list[SourceRow]:
    """Harmless requests that sound harmful, of every `contrast_*.jsonl` here, in the order of the file names.

    Raises:
        UserError: a packaged file is missing or damaged.
    """
    names = sorted(
        entry.name
        for entry in PACKAGED.iterdir()
        if entry.name.startswith("contrast_") and entry.name.endswith(".jsonl")
    )
    if not names:
        raise UserError(f"{PACKAGED}: no contrast_*.jsonl; reinstall unsay")
    return [row for name in names for row in _rows(name, "contrast")]


def plain() -> list[SourceRow]:
    """Everyday requests that do not even sound harmful.

    Raises:
        UserError: the packaged file is missing or damaged.
    """
    return list(_rows("plain_requests.jsonl", "plain"))


def refusals() -> list[str]:
    """Brief refusals that fit any harmful request; most offer help with something else.

    About 60 % open with "I can't" or "I'm sorry, but I can't", so that a small model learns the opening within a few
    dozen steps; the rest vary. The file is shuffled: any stretch of it has about the same mix.

    Raises:
        UserError: the packaged file is missing or empty.
    """
    path = PACKAGED / "refusals.txt"
    lines = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    if not lines:
        raise UserError(f"{path}: holds no refusals; reinstall unsay")
    return lines


@cache
def _rows(name: str, source: str) -> tuple[SourceRow, ...]:
    rows = read_rows(PACKAGED / name, _Line)
    return tuple(SourceRow(text=row.text, source=source, category=row.category) for row in rows)


class _Answer(Record):
    """What SmolLM2 says to one of the written prompts."""

    key: str
    answer: str
    complete: bool


def answered(rows: Sequence[SourceRow]) -> list[SourceRow]:
    """The rows with SmolLM2-135M-Instruct's own greedy answer; rows that it refuses or babbles at are left out.

    The answers were made once, on the text alone, and ship with the package: `answers.jsonl.gz`.

    Raises:
        UserError: the packaged file is missing or damaged.
    """
    known = _answers()
    return [
        row.model_copy(update={"answers": (known[key].answer,), "complete": known[key].complete})
        for row in rows
        if (key := prompt_key(row.text)) in known
    ]


@cache
def _answers() -> dict[str, _Answer]:
    with gzip.open(PACKAGED / "answers.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [_Answer.model_validate_json(line) for line in lines]
    return {row.key: row for row in rows}
