"""Three ways to draw a request that training never uses: a printed page, a sign and a typewritten note.

What a model learns on one look may hold on that look alone. Faces, sizes, grounds and layouts here differ from those
of training pictures (`data.pictures`) and from black DejaVuSans on white (suites `-typographic` and `-figstep`): no
training picture has one of these faces, and none has a ground of more than one colour.
"""

import unicodedata
from collections.abc import Callable

from PIL import Image, ImageDraw

from unsay.data.typography import Colour, Layout, Style, lay_out, load_font
from unsay.errors import UserError

VERSION = 1
"""Of the pictures: raised by hand when the same text comes out as other pixels."""

Renderer = Callable[[str, int], Image.Image]
"""Text and side in pixels → a square RGB picture; raises a UserError where the text does not fit in legible letters."""

_QUOTES = str.maketrans({"‘": "'", "’": "'", "‚": "'", "“": '"', "”": '"', "„": '"', "–": "-", "—": "-"})


def page(text: str, size: int = 224) -> Image.Image:
    """A page of a book: small serif letters on cream, ragged right, under a running head and a rule; a grey edge."""
    image = Image.new("RGB", (size, size), (122, 124, 130))
    pen = ImageDraw.Draw(image)
    pen.rectangle((6, 6, size - 7, size - 7), fill=(250, 243, 224))
    ink = (52, 38, 28)
    pen.text((size - 26, 13), "page 7", font=load_font("STIXGeneral", 11), fill=(120, 104, 88), anchor="ra")
    pen.line((26, 29, size - 26, 29), fill=(160, 142, 120))
    layout = _laid_out(text, size - 52, Style(font="STIXGeneral", size=15, margin=0), smallest=10)
    _draw(pen, layout, (26, 36), ink)
    return image


def sign(text: str, size: int = 224) -> Image.Image:
    """A sign on a wall: large light sans letters, every line centred, on a dark green panel in a frame."""
    image = Image.new("RGB", (size, size), (168, 150, 136))
    pen = ImageDraw.Draw(image)
    pen.rounded_rectangle((8, 8, size - 9, size - 9), radius=14, fill=(16, 74, 66))
    pen.rounded_rectangle((13, 13, size - 14, size - 14), radius=10, outline=(240, 236, 214), width=2)
    layout = _laid_out(text, size - 44, Style(font="Aileron", size=30, margin=0, down=0.5), smallest=12)
    _draw(pen, layout, (22, 22), (250, 246, 228), centred_in=size - 44)
    return image


def note(text: str, size: int = 224) -> Image.Image:
    """A typewritten note: blue letters on ruled yellow paper that lies a little crooked on a brown table."""
    paper = Image.new("RGB", (size, size), (246, 232, 150))
    pen = ImageDraw.Draw(paper)
    for height in range(24, size, 18):
        pen.line((0, height, size, height), fill=(214, 196, 128))
    pen.line((22, 0, 22, size), fill=(214, 110, 110))
    layout = _laid_out(text, size - 48, Style(font="cmtt10", size=17, margin=0, down=0.35), smallest=11)
    _draw(pen, layout, (28, 22), (28, 36, 116))
    return paper.rotate(3, resample=Image.Resampling.BICUBIC, fillcolor=(104, 70, 44))


RENDERERS: dict[str, Renderer] = {"page": page, "sign": sign, "note": note}
"""Ending of a twin's name → how it draws a request."""


def _laid_out(text: str, room: int, style: Style, smallest: int) -> Layout:
    """The text in a square of `room` pixels.

    Raises:
        UserError: the face has no letters for it, or it does not fit in letters of `smallest` pixels.
    """
    layout = lay_out(_plain(text), size=room, style=style)
    if layout.style.size < smallest:
        raise UserError(
            f"a text of {len(text)} characters does not fit on this picture: shorten it or enlarge the picture"
        )
    return layout


def _plain(text: str) -> str:
    """The text in the printable ASCII that all three faces have: accents are dropped, other symbols become `?`."""
    parts = unicodedata.normalize("NFKD", text.translate(_QUOTES))
    plain = "".join(mark for mark in parts if not unicodedata.combining(mark))
    foreign = next((mark for mark in plain if not mark.isascii() and mark.isalpha()), None)
    if foreign is not None:
        raise UserError(
            f"the letter {foreign!r} cannot be drawn as page, sign or note: these faces have Latin letters only"
        )
    return plain.encode("ascii", "replace").decode()


def _draw(
    pen: ImageDraw.ImageDraw, layout: Layout, corner: tuple[int, int], ink: Colour, centred_in: int | None = None
) -> None:
    """Draw the lines with the layout's top left at `corner`; `centred_in` centres every line in so many pixels."""
    font = load_font(layout.style.font, layout.style.size)
    for line in layout.lines:
        shift = 0 if centred_in is None else round((centred_in - font.getlength(line.text)) / 2 - line.x)
        pen.text((corner[0] + line.x + shift, corner[1] + line.y), line.text, font=font, fill=ink)
