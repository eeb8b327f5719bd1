"""Step 1: SmolLM2 writes instructions and answers them (Magpie, arXiv 2406.08464).

An aligned model that is given its chat template up to where the user begins writes what a user might ask. Its own
greedy answers make pairs that carry nobody's licence and that the model itself finds likely.
"""

from __future__ import annotations

import gzip
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from tools.pocket import synthetic
from tools.pocket.conversations import Encoder
from tools.pocket.tower import autocast
from unsay.files import atomic_path

FILE = "pairs.json.gz"
LONGEST = 160
"""Characters: what still fits on a picture in letters of a legible size."""
ANSWER_TOKENS = 64


@torch.no_grad()
def write_pairs(
    model: Any,
    encoder: Encoder,
    out: Path,
    number: int,
    *,
    device: torch.device,
    batch: int = 512,
    seconds: float = float("inf"),
    seed: int = 0,
) -> list[synthetic.Pair]:
    """Sample until there are `number` pairs or the time is up; a file from an earlier run is continued.

    Args:
        model: the language model, on `device`.
        encoder: its chat template.
        out: folder for `FILE`, which is written after every batch of answers.
        number: pairs wanted.
        device: where the model is.
        batch: rows generated at once.
        seconds: limit of wall time.
        seed: of the sampling.
    """
    path = out / FILE
    pairs = synthetic.read_pairs(path) if path.exists() else []
    seen = {pair.instruction for pair in pairs}
    began = time.monotonic()
    torch.manual_seed(seed + len(pairs))
    while len(pairs) < number and time.monotonic() - began < seconds:
        fresh = [text for text in instructions(model, encoder, batch, device=device) if text not in seen]
        fresh = list(dict.fromkeys(fresh))[: number - len(pairs)]
        if fresh:
            seen.update(fresh)
            pairs += answers(model, encoder, fresh, device=device)
            write(pairs, path)
        print(f"pairs {len(pairs)} of {number}", flush=True)
    return pairs


def instructions(model: Any, encoder: Encoder, batch: int, *, device: torch.device) -> list[str]:
    """What the model writes in the user's place; whole single-line ASCII turns of 12 to `LONGEST` characters only."""
    opening = torch.tensor([encoder.opening] * batch, device=device)
    written = _generate(
        model, encoder, opening, torch.ones_like(opening), 48, device=device, do_sample=True, top_p=0.95
    )
    kept = []
    for row in written:
        if encoder.end in row:
            text = encoder.tokenizer.decode(row[: row.index(encoder.end)], clean_up_tokenization_spaces=False).strip()
            if usable(text):
                kept.append(text)
    return kept


def usable(text: str) -> bool:
    """Whether an instruction can be drawn and read: one line, plain characters, neither tiny nor long."""
    return 12 <= len(text) <= LONGEST and text.isascii() and text.isprintable() and "<|" not in text


def answers(model: Any, encoder: Encoder, asked: Sequence[str], *, device: torch.device) -> list[synthetic.Pair]:
    """The model's greedy answers of up to `ANSWER_TOKENS` tokens."""
    ids, mask = encoder.left_padded([encoder.prompt(text, image=False) for text in asked])
    given = torch.from_numpy(ids).to(device), torch.from_numpy(mask).to(device)
    pairs = []
    for text, row in zip(asked, _generate(model, encoder, *given, ANSWER_TOKENS, device=device), strict=True):
        done = encoder.end in row
        said = row[: row.index(encoder.end)] if done else row
        pairs.append(
            synthetic.Pair(
                text, encoder.tokenizer.decode(said, skip_special_tokens=True, clean_up_tokenization_spaces=False), done
            )
        )
    return pairs


def write(pairs: Sequence[synthetic.Pair], path: Path) -> None:
    """Write the pairs, gzipped; equal pairs give an equal file."""
    with atomic_path(path) as temporary:
        text = json.dumps(synthetic.pairs_json(pairs), ensure_ascii=False)
        temporary.write_bytes(gzip.compress(text.encode(), mtime=0))


def _generate(
    model: Any, encoder: Encoder, ids: torch.Tensor, mask: torch.Tensor, new: int, *, device: torch.device, **how: Any
) -> list[list[int]]:
    sampling = {"do_sample": False} | how
    with autocast(device):
        out = model.generate(
            input_ids=ids,
            attention_mask=mask,
            max_new_tokens=new,
            eos_token_id=encoder.end,
            pad_token_id=encoder.end,
            **sampling,
        )
    rows: list[list[int]] = out[:, ids.shape[1] :].tolist()
    return rows
