"""What is to be seen at each patch of a picture: the characters, or the tokens, that stand there."""

from __future__ import annotations

import random
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tools.pocket import synthetic
from tools.pocket.pages import Page, random_page
from unsay.data import shape_scenes, typography

PATCH = 16
"""Pixels on each side of a patch."""

SLOTS = 4
"""Characters that are told apart within one patch; at 11 pixels rarely more centres fall into one."""

CLASSES = 95
"""No character, and the 94 printable ASCII characters from `!` to `~`."""

UNREADABLE = 0.03
"""Share of texts of random characters: they cannot be guessed."""

FULL, FULL_PAGE = 0.8, 170
"""Share of the other texts that fill a page, and their least number of characters: more tokens at the same cost."""

SCENES = 0.15
"""Share of pictures of shapes where a pocket goes on reading: it is to see them as before."""

BLANK, AS_BEFORE = -1, -2
"""In place of a token: nothing stands there, or whatever was seen there before is to be seen."""

Places = list[tuple[int, int]]
"""`(token id or class of a character, patch)`."""


def text_to_place(texts: synthetic.Texts, rng: random.Random) -> str:
    """Mostly readable text, some of it long; a fifth stands above an empty list."""
    if rng.random() < UNREADABLE:
        return synthetic.random_characters(rng)
    text = synthetic.readable_text(texts, rng)
    if rng.random() < FULL:
        while len(text) < FULL_PAGE:
            text = f"{text} {synthetic.readable_text(texts, rng)}"
    return typography.list_text(text) if rng.random() < 0.2 else text


def patches(page: Page) -> dict[int, int]:
    """The patch of every character whose centre is on the page, by its index in the text."""
    height, width = page.pixels.shape[:2]
    return {
        index: int(y) // PATCH * (width // PATCH) + int(x) // PATCH
        for index, x, y in page.centres
        if 0 <= x < width and 0 <= y < height
    }


def character_batch(
    texts: synthetic.Texts, rng: random.Random, batch: int, *, size: int = 224
) -> dict[str, NDArray[Any]]:
    """`images` B × H × W × 3 uint8 and `characters` B × P × `SLOTS`: classes in reading order, 0 where none."""
    side = size // PATCH
    images = np.zeros((batch, size, size, 3), np.uint8)
    characters = np.zeros((batch, side * side, SLOTS), np.int64)
    for number in range(batch):
        text = text_to_place(texts, rng)
        page = random_page(text, rng, size=size)
        images[number] = page.pixels
        used = [0] * (side * side)
        for index, patch in patches(page).items():
            known = ord(text[index]) - ord(" ")
            if 0 < known < CLASSES and used[patch] < SLOTS:
                characters[number, patch, used[patch]] = known
                used[patch] += 1
    return {"images": images, "characters": characters}


def token_batch(
    texts: synthetic.Texts, rng: random.Random, batch: int, tokenizer: Any, *, scenes: float = 0.0, size: int = 224
) -> dict[str, NDArray[Any]]:
    """`images` as above and `tokens` B × P: the id of the token that stands at the patch, `BLANK` or `AS_BEFORE`.

    A share of `scenes` are pictures of shapes, which hold no tokens.
    """
    side = size // PATCH
    images = np.zeros((batch, size, size, 3), np.uint8)
    tokens = np.full((batch, side * side), BLANK, np.int64)
    for number in range(batch):
        if rng.random() < scenes:
            images[number] = np.asarray(shape_scenes.render_scene(shape_scenes.random_scene(rng), size=size))
            tokens[number] = AS_BEFORE
            continue
        text = text_to_place(texts, rng)
        page = random_page(text, rng, size=size)
        images[number] = page.pixels
        for token, patch in settled(text_places(text, page, tokenizer), side):
            tokens[number, patch] = token
    return {"images": images, "tokens": tokens}


def text_places(text: str, page: Page, tokenizer: Any) -> Places:
    """Every token at the patch of its middle visible character, if that is on the page."""
    where = patches(page)
    return [(token, where[middle]) for token, middle in middles(text, tokenizer) if middle in where]


def settled(wanted: Iterable[tuple[int, int]], side: int) -> Places:
    """At most one token a patch: one that finds its patch taken stands at the next on its right, else is left out."""
    taken: set[int] = set()
    kept: Places = []
    for token, patch in wanted:
        for there in (patch, patch + 1):
            if there // side == patch // side and there not in taken:
                taken.add(there)
                kept.append((token, there))
                break
    return kept


def middles(text: str, tokenizer: Any) -> list[tuple[int, int]]:
    """`(token id, index of its middle visible character)` for every token that has a visible character."""
    coded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    found = []
    for token, (start, end) in zip(coded["input_ids"], coded["offset_mapping"], strict=True):
        visible = [index for index in range(start, end) if not text[index].isspace()]
        if visible:
            found.append((token, visible[len(visible) // 2]))
    return found
