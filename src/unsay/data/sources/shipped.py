"""Data that ships in this package: SmolLM2's own benign conversations, and prompts and refusals written for unsay.

Magpie (Xu et al. 2024, arXiv 2406.08464): SmolLM2-135M-Instruct was given its own template up to the start of the user
turn, wrote that turn, and answered it greedily.

Contrast prompts are harmless requests that merely sound harmful. A model that learns to refuse from harmful prompts
alone learns to refuse frightening words; these teach it the difference. None is taken from XSTest or OR-Bench.
"""

import gzip
import json
import zlib
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from unsay.data.published import Row
from unsay.data.splits import normalise, prompt_key
from unsay.errors import UserError
from unsay.files import read_rows, read_text
from unsay.records import Record, SourceRow

PACKAGED = Path(__file__).with_name("packaged")
"""The folder of the files."""
MAGPIE = PACKAGED / "magpie.json.gz"
LONGEST_PROMPT = 300
"""Characters of a Magpie prompt."""


def magpie(done_only: bool = True) -> list[SourceRow]:
    """Benign instructions, each with SmolLM2's answer as its one known answer; `done_only` drops answers cut short.

    Left out: anything not ASCII (the model drifts into other scripts), blank prompts or answers, answers that only
    repeat the prompt, prompts over 300 characters, and prompts equal after normalisation to an earlier one.
    """
    return list(_magpie(MAGPIE, done_only))


def contrast() -> list[SourceRow]:
    """Harmless requests that sound harmful, of every `contrast_*.jsonl`, in the order of the file names."""
    paths = sorted(PACKAGED.glob("contrast_*.jsonl"))
    if not paths:
        raise UserError(f"{PACKAGED}: no contrast_*.jsonl; reinstall unsay")
    return [row for path in paths for row in _written(path, "contrast")]


def plain() -> list[SourceRow]:
    """Everyday requests that do not even sound harmful."""
    return list(_written(PACKAGED / "plain_requests.jsonl", "plain"))


def refusals() -> list[str]:
    """Brief refusals that fit any harmful request; most offer help with something else.

    About 60 % open with "I can't" or "I'm sorry, but I can't", so that a small model learns the opening within a few
    dozen steps; the rest vary. The file is shuffled: any stretch of it has about the same mix.
    """
    path = PACKAGED / "refusals.txt"
    lines = [line.strip() for line in read_text(path).splitlines() if line.strip()]
    if not lines:
        raise UserError(f"{path}: holds no refusals; reinstall unsay")
    return lines


def public_copies() -> frozenset[str]:
    """Keys of harmful requests in the pinned wheels that are near copies of a public suite's prompt.

    The suites are those that could be read when `python -m tools.packaged_prompts` wrote the file; it names them.
    """
    path = PACKAGED / "public_copies.txt"
    return frozenset(line for line in read_text(path).splitlines() if line and not line.startswith("#"))


def answered(rows: Sequence[SourceRow]) -> list[SourceRow]:
    """The rows with SmolLM2-135M-Instruct's own greedy answer; rows that it refuses or babbles at are left out.

    The answers were made once, on the text alone, and ship with the package: `answers.jsonl.gz`.
    """
    known = _answers()
    return [
        row.model_copy(update={"answers": (known[key].answer,), "complete": known[key].complete})
        for row in rows
        if (key := prompt_key(row.text)) in known
    ]


@cache
def _magpie(path: Path, done_only: bool) -> tuple[SourceRow, ...]:
    rows: dict[str, SourceRow] = {}
    for number, values in enumerate(_magpie_pairs(path), start=1):
        if not isinstance(values, dict) or not isinstance(values.get("done"), bool):
            raise UserError(f"{path}: pair {number}: an object with i, r and done was expected")
        if done_only and not values["done"]:
            continue
        pair = Row(values, f"{path}: pair {number}")
        prompt, answer = pair.text("i"), pair.text("r")
        key = normalise(prompt)
        broken = not (prompt + answer).isascii() or len(prompt) > LONGEST_PROMPT or normalise(answer) == key
        if not broken:
            rows.setdefault(key, SourceRow(text=prompt, source="magpie", answers=(answer,)))
    return tuple(rows.values())


def _magpie_pairs(path: Path) -> list[object]:
    try:
        content = json.loads(gzip.decompress(path.read_bytes()))
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); reinstall unsay") from None
    pairs = content.get("pairs") if isinstance(content, dict) else None
    if not isinstance(pairs, list):
        raise UserError(f"{path}: pairs: a list was expected; reinstall unsay")
    return pairs


class _Written(Record):
    """One row of a file of written prompts; the source is known from the file."""

    text: str
    category: str
    subject: str | None = None


@cache
def _written(path: Path, source: str) -> tuple[SourceRow, ...]:
    return tuple(SourceRow(source=source, **row.model_dump()) for row in read_rows(path, _Written))


class _Answer(Record):
    """SmolLM2's answer to one of the written prompts."""

    key: str
    answer: str
    complete: bool


@cache
def _answers() -> dict[str, _Answer]:
    with gzip.open(PACKAGED / "answers.jsonl.gz", "rt", encoding="utf-8") as lines:
        rows = [_Answer.model_validate_json(line) for line in lines]
    return {row.key: row for row in rows}
