"""Text rendered as pixels: a request that exists only in a picture.

Everything here is a pure function of its arguments. The fonts are faces that matplotlib and Pillow ship, laid out by
FreeType's basic engine, so that no font that happens to be installed can change a benchmark picture.
"""

import random
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache, lru_cache
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont

from unsay.errors import UserError
from unsay.files import atomic_path

VERSION = 1
"""Of the pictures: raised by hand when the same text in the same style comes out as other pixels."""

Colour = tuple[int, int, int]
"""Red, green and blue, 0 to 255."""

FONTS = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSans-Oblique",
    "DejaVuSans-BoldOblique",
    "DejaVuSerif",
    "DejaVuSerif-Bold",
    "DejaVuSerif-Italic",
    "DejaVuSerif-BoldItalic",
    "DejaVuSansMono",
    "DejaVuSansMono-Bold",
    "DejaVuSansMono-Oblique",
    "DejaVuSansMono-BoldOblique",
)
"""Names (file stems) of the twelve DejaVu faces of matplotlib: training pictures are sampled from these."""

OTHER_FONTS = ("STIXGeneral", "cmtt10", "Aileron")
"""Faces of the renderers that training never uses: two of matplotlib's, and Pillow's own."""

BUILDER_FONTS = ("cmr10", "cmb10", "cmss10", "cmti10")
"""More of matplotlib's faces, from which the pocket VLM learns to read beside `FONTS`."""

SMALLEST = 6
"""Pixels: below this not even a person reads the text, so shrinking stops here."""

_LINE_HEIGHT = 1.25
"""Of the font size; DejaVu's own ascent + descent is 1.17."""


@dataclass(frozen=True)
class Style:
    """How text looks.

    Attributes:
        font: one of `FONTS`, `OTHER_FONTS` or `BUILDER_FONTS`.
        size: font size in pixels, before any shrinking.
        ink: colour of the letters.
        paper: colour of the background.
        margin: pixels kept free on every side.
        across: where the block stands in the free width, 0 (left) to 1 (right).
        down: where the block stands in the free height, 0 (top) to 1 (bottom).
    """

    font: str = "DejaVuSans"
    size: int = 18
    ink: Colour = (0, 0, 0)
    paper: Colour = (255, 255, 255)
    margin: int = 8
    across: float = 0.0
    down: float = 0.0


@dataclass(frozen=True)
class Line:
    """One laid-out line.

    Attributes:
        text: its characters, without the line break.
        start: index of its first character in the whole text.
        x: left edge, in pixels.
        y: top edge, in pixels.
    """

    text: str
    start: int
    x: float
    y: float


@dataclass(frozen=True)
class Layout:
    """Where every line of a text stands, and in which style it finally fitted."""

    lines: tuple[Line, ...]
    style: Style

    def centres(self) -> list[tuple[int, float, float]]:
        """`(index in the text, x, y)` of every character's centre, in pixels, blanks included."""
        font = load_font(self.style.font, self.style.size)
        middle = line_height(self.style.size) / 2
        centres = []
        for line in self.lines:
            left = line.x
            for offset, character in enumerate(line.text):
                width = _width(font, character)
                centres.append((line.start + offset, left + width / 2, line.y + middle))
                left += width
        return centres


def random_style(rng: random.Random) -> Style:
    """A legible style sampled at random: any face, 11 to 34 pixels, any two colours that stand apart."""
    paper, ink = random_colour(rng), random_colour(rng)
    while abs(_luminance(paper) - _luminance(ink)) < 90:
        ink, paper = random_colour(rng), random_colour(rng)
    if rng.random() < 0.3:  # the commonest kind of picture in the wild
        ink, paper = (0, 0, 0), (255, 255, 255)
    return Style(
        font=rng.choice(FONTS),
        size=rng.randint(11, 34),
        ink=ink,
        paper=paper,
        margin=rng.randint(2, 14),
        across=rng.random(),
        down=rng.random(),
    )


def random_colour(rng: random.Random, darkest: int = 0, palest: int = 255) -> Colour:
    """A colour whose channels are sampled from `darkest` to `palest`."""
    return rng.randint(darkest, palest), rng.randint(darkest, palest), rng.randint(darkest, palest)


def render_text(text: str, *, size: int = 224, style: Style) -> Image.Image:
    """Render wrapped `text` on a `size` × `size` RGB picture, in smaller letters if it does not fit.

    Raises:
        UserError: the text does not fit even in the smallest letters, the font lacks a letter of it, or is unknown.
    """
    return render_layout(lay_out(text, size=size, style=style), size=size)


def list_text(topic_line: str, items: int = 3) -> str:
    """`topic_line` above an empty numbered list, as in FigStep (arXiv 2311.05608)."""
    return "\n".join([topic_line, *(f"{number}." for number in range(1, items + 1))])


def render_list(topic_line: str, *, style: Style, items: int = 3, size: int = 224) -> Image.Image:
    """Render `topic_line` above an empty list `1.` `2.` `3.` that invites the model to fill it in (FigStep)."""
    return render_text(list_text(topic_line, items), size=size, style=style)


def lay_out(text: str, *, size: int = 224, style: Style) -> Layout:
    """Find the largest font size up to `style.size` at which `text` fits, and where its lines then stand."""
    if (letter := missing_letter(text, [style.font])) is not None:
        raise UserError(f"the letter {letter!r} cannot be drawn: the face {style.font} lacks it; ask in words")
    room = size - 2 * style.margin
    # One pixel at a time near the end, in bigger steps before it: 34, 29, 25, 22, ...
    points = min(style.size, room)
    while points >= SMALLEST:
        font = load_font(style.font, points)
        rows = _wrap(text, font, room)
        height = line_height(points) * len(rows)
        if height <= room:
            width = max((_line_width(font, row) for row, _ in rows), default=0.0)
            left = style.margin + style.across * max(0.0, room - width)
            top = style.margin + style.down * (room - height)
            lines = tuple(
                Line(row, start, float(round(left)), float(round(top + number * line_height(points))))
                for number, (row, start) in enumerate(rows)
            )
            return Layout(lines, replace(style, size=points))
        points = min(points - 1, int(points * 0.87)) if points > 14 else points - 1
    raise UserError(
        f"a text of {len(text)} characters does not fit on a {size} x {size} picture: shorten it or enlarge the picture"
    )


def missing_letter(text: str, fonts: Sequence[str] = FONTS) -> str | None:
    """The first letter of a text that one of the faces lacks, and would draw as a box; symbols do not count."""
    letters = (character for character in text if character.isalpha() and not character.isascii())
    return next((letter for letter in letters if any(_lacks(font, letter) for font in fonts)), None)


def render_layout(layout: Layout, *, size: int = 224) -> Image.Image:
    """Render a laid-out text on a `size` × `size` RGB picture."""
    style = layout.style
    image = Image.new("RGB", (size, size), style.paper)
    pen = ImageDraw.Draw(image)
    font = load_font(style.font, style.size)
    for line in layout.lines:
        if line.text.strip():
            pen.text((line.x, line.y), line.text, font=font, fill=style.ink)
    return image


def save_png(image: Image.Image, path: Path) -> None:
    """Write `image` as PNG; the file is either whole or absent (see `files.atomic_path`)."""
    with atomic_path(path) as temporary:
        image.save(temporary, format="PNG")


@lru_cache(maxsize=512)
def load_font(name: str, size: int) -> ImageFont.FreeTypeFont:
    """A known face at `size` pixels, with the layout engine that every Pillow has."""
    known = (*FONTS, *OTHER_FONTS, *BUILDER_FONTS)
    if name not in known:
        raise UserError(f"font {name!r} is unknown: choose one of {', '.join(known)}")
    if name == "Aileron":
        font = ImageFont.load_default(size)
        assert isinstance(font, ImageFont.FreeTypeFont)  # Pillow without FreeType draws no face at all
        return font
    path = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / f"{name}.ttf"
    try:
        return ImageFont.truetype(str(path), size, layout_engine=ImageFont.Layout.BASIC)
    except OSError:
        raise UserError(f"{path}: font file missing: reinstall matplotlib, which ships it") from None


def line_height(points: int) -> float:
    """Pixels from line to line."""
    return points * _LINE_HEIGHT


@cache
def _lacks(font: str, letter: str) -> bool:
    """Whether a face draws a letter as it draws what is no character at all."""
    face = load_font(font, 20)
    drawn, nothing = face.getmask(letter), face.getmask("\uffff")
    return drawn.size == nothing.size and bytes(drawn) == bytes(nothing)


@lru_cache(maxsize=200_000)
def _width(font: ImageFont.FreeTypeFont, text: str) -> float:
    return float(font.getlength(text))


def _line_width(font: ImageFont.FreeTypeFont, line: str) -> float:
    # Summed over words, which the cache has already seen, rather than measured anew for every candidate line.
    words = line.split(" ")
    return sum(_width(font, word) for word in words) + _width(font, " ") * (len(words) - 1)


def _wrap(text: str, font: ImageFont.FreeTypeFont, room: int) -> list[tuple[str, int]]:
    """Greedy wrapping at blanks: `(line, index of its first character)`; a word wider than the room is cut."""
    rows: list[tuple[str, int]] = []
    start = 0
    for paragraph in text.split("\n"):
        rows += _wrap_paragraph(paragraph, start, font, room)
        start += len(paragraph) + 1
    return rows


def _wrap_paragraph(paragraph: str, start: int, font: ImageFont.FreeTypeFont, room: int) -> list[tuple[str, int]]:
    blank = _width(font, " ")
    rows: list[tuple[str, int]] = []
    line, line_start, line_width = "", start, 0.0
    position = start
    for word in paragraph.split(" "):
        width = _width(font, word)
        if line_width and line_width + blank + width > room:
            rows.append((line, line_start))
            line, line_start, line_width = word, position, width
        elif position == start:
            line, line_width = word, width
        else:
            line, line_width = f"{line} {word}", line_width + blank + width
        while line_width > room and len(line) > 1:  # only ever a single word
            cut = _longest_prefix(line, font, room)
            rows.append((line[:cut], line_start))
            line, line_start = line[cut:], line_start + cut
            line_width = _line_width(font, line)
        position += len(word) + 1
    rows.append((line, line_start))
    return rows


def _longest_prefix(word: str, font: ImageFont.FreeTypeFont, room: int) -> int:
    """How many characters fit, at least one."""

    def width(end: int) -> float:
        return _width(font, word[:end])

    return 1 + bisect_right(range(2, len(word) + 1), float(room), key=width)


def _luminance(colour: Sequence[int]) -> float:
    red, green, blue = colour
    return 0.299 * red + 0.587 * green + 0.114 * blue
