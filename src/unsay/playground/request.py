"""What the page asks: typed words, a picture, or words drawn as a picture, as one prompt."""

import base64
import binascii
import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

from PIL import Image
from pydantic import BaseModel, ConfigDict, Field

from unsay.data.pictures import read_image
from unsay.data.splits import prompt_key
from unsay.data.typography import save_png
from unsay.errors import UserError
from unsay.files import content_key
from unsay.playground.speakers import MAX_STRENGTH
from unsay.records import Kind, Modality, Phase, Prompt
from unsay.suites.twins import FOLLOW, drawn_request

SUITE = "play"
"""The suite of typed requests."""
MAX_WORDS = 4_000
"""Characters of a request."""
MAX_BYTES = 20 * 2**20
"""Of a picture's file."""
MAX_SIDE = 2_048
"""Pixels: a larger picture is made smaller, as no vision tower reads more."""


class Request(BaseModel):
    """One request of the page."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    text: str = Field("", max_length=MAX_WORDS)
    picture: str | None = Field(None, max_length=2 * MAX_BYTES)  # a data URL
    drawn: bool = False  # whether the words come as a picture
    kind: Literal[Kind.ATTACK, Kind.BENIGN] = Kind.BENIGN  # whether it is harmful, as its author says


class Question(Request):
    """A request to one of the two models; an example has a number in place of words and a picture."""

    phase: Phase
    example: int | None = None
    strength: float = Field(1.0, ge=0.0, le=MAX_STRENGTH)


@contextmanager
def as_prompt(request: Request) -> Iterator[Prompt]:
    """The request as a prompt; its picture is a temporary file, which is gone when the block ends.

    Raises:
        UserError: nothing is asked, the picture is no picture, or the words do not fit on one.
    """
    words = request.text.strip()
    if not words and request.picture is None:
        raise UserError("nothing is asked: type a request, or drop a picture")
    if request.drawn and not words:
        raise UserError("there are no words to draw")
    image = drawn_request(words) if request.drawn else None if request.picture is None else _opened(request.picture)
    if image is None:
        yield _prompt(request, words, None)
        return
    handle, name = tempfile.mkstemp(prefix="unsay-play-", suffix=".png")
    os.close(handle)
    try:
        save_png(image, Path(name))
        yield _prompt(request, words, name)
    finally:
        Path(name).unlink(missing_ok=True)


def _prompt(request: Request, words: str, image: str | None) -> Prompt:
    modality = Modality.TYPOGRAPHIC if request.drawn else Modality.TEXT if image is None else Modality.IMAGE
    return Prompt(
        id=f"{SUITE}-{content_key(words, request.picture, request.drawn, request.kind)[:12]}",
        suite=SUITE,
        kind=request.kind,
        modality=modality,
        prompt=FOLLOW if request.drawn else words,
        request=words,
        image=image,
        group=prompt_key(words),
    )


def drawn_url(text: str) -> str:
    """The typed words as a picture, as a data URL, to be looked at; a `UserError` if they do not fit."""
    if not (words := text.strip()):
        raise UserError("there are no words to draw")
    return data_url(drawn_request(words))


def data_url(image: Image.Image) -> str:
    """A picture as a PNG in a data URL."""
    buffer = io.BytesIO()
    image.save(buffer, "PNG")
    return "data:image/png;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _opened(url: str) -> Image.Image:
    """The picture in a data URL, in RGB."""
    header, _, body = url.partition(",")
    if not header.startswith("data:") or not header.endswith(";base64"):
        raise UserError("the picture is not a readable image")
    try:
        content = base64.b64decode(body, validate=True)
    except (binascii.Error, ValueError):
        raise UserError("the picture is not a readable image") from None
    if len(content) > MAX_BYTES:
        raise UserError(f"the picture has {len(content) / 2**20:.0f} MB; at most {MAX_BYTES // 2**20} are read")
    try:
        image = read_image(io.BytesIO(content))
    except UserError:
        raise UserError("the picture is not a readable image: PNG, JPEG, WebP and GIF are read") from None
    image.thumbnail((MAX_SIDE, MAX_SIDE))
    return image
