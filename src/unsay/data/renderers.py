"""Three ways to draw a request that training never uses: a printed page, a sign and a typewritten note.

What a model learns on one look may hold on that look alone. Faces, sizes, grounds and layouts here differ from those
of training pictures (`data.pictures`) and from black DejaVuSans on white (suites `-typographic` and `-figstep`): no
training picture has one of these faces, and none has a ground of more than one colour.

What a model cannot read it cannot comply with, and that would be counted as safety. So they keep to what the pocket VLM
reads about as well as black DejaVuSans on white; frames, edges, slanted lines and text in the middle of the picture it
does not read.
"""

import unicodedata
from collections.abc import Callable

from PIL import Image, ImageDraw

from unsay.data.typography import Colour, Layout, Style, lay_out, load_font
from unsay.errors import UserError

VERSION = 2
"""Of the pictures: raised by hand when the same text comes out as other pixels."""

Renderer = Callable[[str, int], Image.Image]
"""Text and side in pixels → a square RGB picture; raises a UserError where the text does not fit in legible letters."""

PLAIN_MARKS = str.maketrans({"‘": "'", "’": "'", "‚": "'", "“": '"', "”": '"', "„": '"', "–": "-", "—": "-"})
"""For `str.translate`: quotes and dashes in their plain spelling."""


def page(text: str, size: int = 224) -> Image.Image:
    """A page of a book: serif letters on cream, over a rule and a page number."""
    image = Image.new("RGB", (size, size), (250, 243, 224))
    pen = ImageDraw.Draw(image)
    pen.line((14, size - 20, size - 15, size - 20), fill=(160, 142, 120))
    pen.text((size / 2, size - 16), "7", font=load_font("STIXGeneral", 12), fill=(120, 104, 88), anchor="ma")
    layout = _laid_out(text, size - 36, Style(font="STIXGeneral", size=24, margin=0), smallest=12)
    _draw(pen, layout, (14, 12), (20, 14, 10))
    return image


def sign(text: str, size: int = 224) -> Image.Image:
    """A sign: light sans letters, every line centred, on green that grows darker downwards."""
    image = Image.new("RGB", (size, size))
    pen = ImageDraw.Draw(image)
    for height in range(size):
        shade = 1 - 0.35 * height / size
        pen.line((0, height, size, height), fill=(round(22 * shade), round(92 * shade), round(80 * shade)))
    room = size - 24
    layout = _laid_out(text, room, Style(font="Aileron", size=24, margin=0), smallest=11)
    _draw(pen, layout, (12, 12), (250, 246, 228), centred_in=room)
    return image


def note(text: str, size: int = 224) -> Image.Image:
    """A typewritten note: blue letters on ruled yellow paper."""
    image = Image.new("RGB", (size, size), (246, 232, 150))
    pen = ImageDraw.Draw(image)
    for height in range(24, size, 18):
        pen.line((0, height, size, height), fill=(226, 210, 138))
    layout = _laid_out(text, size - 24, Style(font="cmtt10", size=20, margin=0), smallest=11)
    _draw(pen, layout, (14, 12), (28, 36, 116))
    return image


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
    parts = unicodedata.normalize("NFKD", text.translate(PLAIN_MARKS))
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
