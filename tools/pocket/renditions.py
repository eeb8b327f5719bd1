"""The plain page that says the same as a picture: black letters on white, in the face that pocket-1 reads best.

A page of text becomes the same words at the same places. A scene becomes words, too: the colour and the kind of every
shape, written where the shape stands.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Sequence
from statistics import median

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from tools.pocket.pages import Page
from unsay.data import typography
from unsay.data.shape_scenes import ShapeScene

FACE = "DejaVuSans"

ROUNDING = 0.02
"""By how much letters may be wider than the page's: those of one size differ so much among themselves."""

SMALLEST, LARGEST = 8, 40
"""Pixels of a rendition's letters."""

LABEL = 13
"""Pixels of the words that stand for a shape: five letters take three patches."""

PATCH = 16

Word = tuple[str, float, float]
"""`(letters, left edge, middle's height)`, in pixels."""


def plain_page(text: str, page: Page) -> NDArray[np.uint8]:
    """The page's words at their places, in the largest letters that are no wider than the page's."""
    found = pieces(text, page)
    widths = {piece: places[-1][0] - places[0][0] for piece, places in found if len(piece) > 1}

    def wider(points: int) -> bool:
        return median(_between(piece, points) / width for piece, width in widths.items()) > 1 + ROUNDING

    points = bisect_left(range(SMALLEST, LARGEST + 1), True, key=wider) + SMALLEST - 1 if widths else LABEL
    points = max(points, SMALLEST)
    font = typography.load_font(FACE, points)
    words: list[Word] = []
    for piece, places in found:
        (left, top), (right, bottom) = places[0], places[-1]
        begins = (left + right - _between(piece, points) - font.getlength(piece[0])) / 2
        words.append((piece, begins, (top + bottom) / 2))
    return _written(words, points, page.pixels.shape[0])


def _between(piece: str, points: int) -> float:
    """Pixels from the middle of a word's first letter to that of its last."""
    font = typography.load_font(FACE, points)
    return font.getlength(piece) - (font.getlength(piece[0]) + font.getlength(piece[-1])) / 2


def pieces(text: str, page: Page) -> list[tuple[str, list[tuple[float, float]]]]:
    """Every word with the places of its letters; a word that is cut at the end of a line is two."""
    where = {index: (x, y) for index, x, y in page.centres}
    found: list[tuple[str, list[tuple[float, float]]]] = []
    for match in re.finditer(r"\S+", text):
        start = match.start()
        for index in range(*match.span()):
            if index > start and where[index][0] < where[index - 1][0]:
                found.append((text[start:index], [where[one] for one in range(start, index)]))
                start = index
        found.append((text[start : match.end()], [where[one] for one in range(start, match.end())]))
    return found


def labelled(scene: ShapeScene, size: int = 224) -> NDArray[np.uint8]:
    """`red circle` where a red circle stands, from the edge of a patch on; labels do not lie on each other."""
    font = typography.load_font(FACE, LABEL)
    taken: list[tuple[int, int, int]] = []
    words: list[Word] = []
    rows = size // PATCH
    for shape in sorted(scene.shapes, key=lambda one: (one.y, one.x)):
        label = f"{shape.colour} {shape.kind}"
        width = font.getlength(label)
        left = PATCH * round((shape.x * size - width / 2) / PATCH)
        left = min(max(left, 0), PATCH * int((size - width) / PATCH))
        row = int(shape.y * rows)
        for there in sorted(range(rows), key=lambda one: (abs(one - row), one)):
            if not any(there == at and left < end and begin < left + width for at, begin, end in taken):
                break
        taken.append((there, left, left + int(width) + PATCH // 2))
        words.append((label, left, (there + 0.5) * PATCH))
    return _written(words, LABEL, size)


def _written(words: Sequence[Word], points: int, size: int) -> NDArray[np.uint8]:
    """The words at their places, black on white."""
    image = Image.new("RGB", (size, size), "white")
    pen = ImageDraw.Draw(image)
    font = typography.load_font(FACE, points)
    half = typography.line_height(points) / 2
    for letters, left, y in words:
        pen.text((round(left), round(y - half)), letters, font=font, fill="black")
    return np.asarray(image)
