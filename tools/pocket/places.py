"""Rendered text together with where on the patch grid each of its characters and tokens stands."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tools.pocket import synthetic
from unsay.data import typography

PATCH = 16
"""Pixels on each side of a patch."""

SLOTS = 4
"""Characters that are told apart within one patch; at 11 pixels rarely more centres fall into one."""

CLASSES = 95
"""No character, and the 94 printable ASCII characters from `!` to `~`."""


def text_to_place(pairs: Sequence[synthetic.Pair], rng: random.Random) -> str:
    """A fifth random characters, the rest readable text; a quarter stands above an empty list."""
    text = synthetic.random_characters(rng) if rng.random() < 0.2 else synthetic.readable_text(pairs, rng)
    return typography.list_text(text) if rng.random() < 0.25 else text


def lay_out(text: str, rng: random.Random, size: int) -> tuple[NDArray[np.uint8], list[tuple[int, int]]]:
    """Draw `text` in a random style; returns the picture and `(index in the text, patch)` of every character."""
    layout = typography.lay_out(text, size=size, style=typography.random_style(rng))
    side = size // PATCH
    where = []
    for index, x, y in layout.centres():
        column, row = int(x) // PATCH, int(y) // PATCH
        if 0 <= column < side and 0 <= row < side:
            where.append((index, row * side + column))
    return np.asarray(typography.render_layout(layout, size=size)), where


def character_batch(
    pairs: Sequence[synthetic.Pair], rng: random.Random, batch: int, *, size: int = 224
) -> dict[str, NDArray[Any]]:
    """`images` B × H × W × 3 uint8 and `characters` B × P × `SLOTS`: classes in reading order, 0 where none."""
    side = size // PATCH
    images = np.zeros((batch, size, size, 3), np.uint8)
    characters = np.zeros((batch, side * side, SLOTS), np.int64)
    for number in range(batch):
        text = text_to_place(pairs, rng)
        images[number], where = lay_out(text, rng, size)
        used = [0] * (side * side)
        for index, patch in where:
            known = ord(text[index]) - ord(" ")
            if 0 < known < CLASSES and used[patch] < SLOTS:
                characters[number, patch, used[patch]] = known
                used[patch] += 1
    return {"images": images, "characters": characters}


def token_batch(
    pairs: Sequence[synthetic.Pair], rng: random.Random, batch: int, tokenizer: Any, *, size: int = 224
) -> dict[str, NDArray[Any]]:
    """`images` as above and `tokens` B × P: the id of the token whose middle character is in the patch, or -1."""
    side = size // PATCH
    images = np.zeros((batch, size, size, 3), np.uint8)
    tokens = np.full((batch, side * side), -1, np.int64)
    for number in range(batch):
        text = text_to_place(pairs, rng)
        images[number], where = lay_out(text, rng, size)
        patch_of = dict(where)
        for token, middle in middles(text, tokenizer):
            patch = patch_of.get(middle)
            if patch is not None and tokens[number, patch] < 0:
                tokens[number, patch] = token
    return {"images": images, "tokens": tokens}


def middles(text: str, tokenizer: Any) -> list[tuple[int, int]]:
    """`(token id, index of its middle visible character)` for every token that has a visible character."""
    coded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    found = []
    for token, (start, end) in zip(coded["input_ids"], coded["offset_mapping"], strict=True):
        visible = [index for index in range(start, end) if not text[index].isspace()]
        if visible:
            found.append((token, visible[len(visible) // 2]))
    return found
