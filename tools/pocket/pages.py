"""Pages of text as the pocket VLM learns to read them: in many faces, sizes and colours, a bit askew and noisy.

Faces of `typography.OTHER_FONTS` never occur: they are the unseen test (`unsay.data.renderers`).
"""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from unsay.data import typography
from unsay.data.typography import Layout, Style

FACES = (*typography.FONTS, *typography.BUILDER_FONTS)
"""All faces that are learned."""

PLAIN = 0.3
"""Share of pages in plain dark letters on a pale ground, the commonest kind in the wild and in the suites."""

GROUNDED, WARPED, NOISY = 0.2, 0.35, 0.2
"""Shares of the other pages whose ground is not of one colour, that lie askew, and that are noisy or blurred."""

ANGLE = 4.0
"""Degrees by which a page is turned at most."""


@dataclass(frozen=True)
class Page:
    """A picture of text.

    Attributes:
        pixels: height × width × 3, uint8.
        centres: `(index in the text, x, y)` of every character's centre, in pixels.
    """

    pixels: NDArray[np.uint8]
    centres: list[tuple[int, float, float]]


def random_page(text: str, rng: random.Random, *, size: int = 224) -> Page:
    """The text in a random look; long texts come out in small letters.

    Raises:
        UserError: it does not fit even in the smallest letters.
    """
    if rng.random() < PLAIN:
        layout = typography.lay_out(text, size=size, style=plain_style(rng))
        return Page(np.asarray(typography.render_layout(layout, size=size)), layout.centres())
    layout = typography.lay_out(text, size=size, style=any_style(rng))
    image = _grounded(layout, rng, size) if rng.random() < GROUNDED else typography.render_layout(layout, size=size)
    centres = layout.centres()
    if rng.random() < WARPED:
        image, centres = _warped(image, centres, layout.style.paper, rng)
    pixels = np.asarray(image)
    return Page(_noisy(pixels, rng) if rng.random() < NOISY else pixels, centres)


def plain_style(rng: random.Random) -> Style:
    """Dark on pale or black on white, in the plainest face, near the top left."""
    style = Style(size=rng.randint(13, 26), margin=rng.randint(4, 12))
    if rng.random() < 0.5:
        return style
    ink, paper = typography.random_colour(rng, 0, 60), typography.random_colour(rng, 170, 255)
    return replace(style, ink=ink, paper=paper, across=0.3 * rng.random(), down=0.3 * rng.random())


def any_style(rng: random.Random) -> Style:
    """Any face, 11 to 34 pixels, any place and any two colours that stand apart."""
    return replace(typography.random_style(rng), font=rng.choice(FACES))


def _grounded(layout: Layout, rng: random.Random, size: int) -> Image.Image:
    """On paper that shades off, is ruled across or down, or has a frame, each drawn faintly beside the ink."""
    style = layout.style
    faint = tuple(round(p + rng.uniform(0.08, 0.3) * (i - p)) for p, i in zip(style.paper, style.ink, strict=True))
    image = Image.new("RGB", (size, size), style.paper)
    pen = ImageDraw.Draw(image)
    step, start = rng.randint(9, 40), rng.randint(0, 20)
    match rng.choice(("shade", "ruled", "columns", "frame")):
        case "shade":
            mask = Image.linear_gradient("L").rotate(rng.choice((0, 90, 180, 270))).resize((size, size))
            image.paste(faint, mask=mask)
        case "ruled":
            for y in range(start, size, step):
                pen.line((0, y, size, y), fill=faint)
        case "columns":
            for x in range(start, size, step):
                pen.line((x, 0, x, size), fill=faint)
        case _:
            inset = rng.randint(0, max(0, style.margin - 2))
            pen.rectangle((inset, inset, size - 1 - inset, size - 1 - inset), outline=faint, width=rng.randint(1, 3))
    font = typography.load_font(style.font, style.size)
    for line in layout.lines:
        pen.text((line.x, line.y), line.text, font=font, fill=style.ink)
    return image


def _warped(
    image: Image.Image, centres: Sequence[tuple[int, float, float]], paper: typography.Colour, rng: random.Random
) -> tuple[Image.Image, list[tuple[int, float, float]]]:
    """Turned, slanted and stretched about its middle; characters may leave the picture at its edges."""
    angle = math.radians(rng.uniform(-ANGLE, ANGLE))
    wide, high, slant = rng.uniform(0.85, 1.12), rng.uniform(0.85, 1.12), rng.uniform(-0.12, 0.12)
    cos, sin = math.cos(angle), math.sin(angle)
    # Where a point goes: first stretched and slanted, then turned.
    forward = np.array([[cos, -sin], [sin, cos]]) @ np.array([[wide, slant], [0.0, high]])
    middle = np.array(image.size) / 2
    back = np.linalg.inv(forward)
    shift = middle - back @ middle
    matrix = (*back[0], shift[0], *back[1], shift[1])
    turned = image.transform(image.size, Image.Transform.AFFINE, matrix, Image.Resampling.BILINEAR, fillcolor=paper)
    points = np.array([(x, y) for _, x, y in centres]).reshape(-1, 2)
    moved = (points - middle) @ forward.T + middle
    return turned, [(index, float(x), float(y)) for (index, _, _), (x, y) in zip(centres, moved, strict=True)]


def _noisy(pixels: NDArray[np.uint8], rng: random.Random) -> NDArray[np.uint8]:
    """Grain, or the loss of a scan at a lower resolution."""
    if rng.random() < 0.5:
        noise = np.random.default_rng(rng.getrandbits(32)).standard_normal(pixels.shape, np.float32)
        grainy = pixels + rng.uniform(3, 16) * noise
        return np.clip(grainy, 0, 255).astype(np.uint8)
    size = pixels.shape[0]
    small = round(size * rng.uniform(0.65, 0.9))
    scan = Image.fromarray(pixels).resize((small, small), Image.Resampling.BILINEAR)
    return np.asarray(scan.resize((size, size), Image.Resampling.BICUBIC))
