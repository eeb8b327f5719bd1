"""Benign instructions that SmolLM2-135M-Instruct wrote itself, with its own greedy answers; ships in this package.

The method is Magpie's (Xu et al. 2024, arXiv 2406.08464): give the model its own template up to the start of the user
turn and let it write that turn, then let it answer.
"""

import gzip
import json
import zlib
from functools import cache
from pathlib import Path

from unsay.data.sources.published import text_field
from unsay.data.splits import normalise
from unsay.errors import UserError
from unsay.records import SourceRow

PATH = Path(__file__).with_name("packaged") / "magpie.json.gz"
LONGEST_PROMPT = 300


def load(done_only: bool = True) -> list[SourceRow]:
    """Instructions, each with the model's answer as its one known answer.

    Left out: anything not ASCII (the model drifts into other scripts), blank prompts or answers, answers that only
    repeat the prompt, prompts over 300 characters, and prompts equal after normalisation to an earlier one.

    Args:
        done_only: keep only answers that ended by themselves within their 64 tokens (7,797 of 47,625 before
            filtering), not those that were cut off.

    Raises:
        UserError: the packaged file is damaged.
    """
    return list(_read(PATH, done_only))


@cache
def _read(path: Path, done_only: bool) -> tuple[SourceRow, ...]:
    rows: dict[str, SourceRow] = {}
    for number, pair in enumerate(_pairs(path), start=1):
        if not isinstance(pair, dict) or not isinstance(pair.get("done"), bool):
            raise UserError(f"{path}: pair {number}: an object with i, r and done was expected")
        if done_only and not pair["done"]:
            continue
        prompt = text_field(pair.get("i"), path, f"pair {number}: i")
        answer = text_field(pair.get("r"), path, f"pair {number}: r")
        key = normalise(prompt)
        broken = not (prompt + answer).isascii() or len(prompt) > LONGEST_PROMPT or normalise(answer) == key
        if not broken:
            rows.setdefault(key, SourceRow(text=prompt, source="magpie", answers=(answer,)))
    return tuple(rows.values())


def _pairs(path: Path) -> list[object]:
    try:
        content = json.loads(gzip.decompress(path.read_bytes()))
    except (OSError, EOFError, zlib.error, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({error}); reinstall unsay") from None
    pairs = content.get("pairs") if isinstance(content, dict) else None
    if not isinstance(pairs, list):
        raise UserError(f"{path}: pairs: a list was expected; reinstall unsay")
    return pairs
