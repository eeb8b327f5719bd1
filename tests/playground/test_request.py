"""What the page asks becomes a prompt; a picture lasts as long as the answer, and a bad one is one line."""

import base64
import io
from pathlib import Path

import pytest
from PIL import Image

from unsay.data.pictures import pixel_key
from unsay.data.splits import prompt_key
from unsay.errors import UserError
from unsay.playground.request import MAX_SIDE, Request, as_prompt, data_url, drawn_url
from unsay.records import Condition, Kind, Modality
from unsay.suites.base import Item, Setting, Suite
from unsay.suites.twins import FOLLOW, typographic_twin


def test_words_alone() -> None:
    with as_prompt(Request(text="  [request 1] ", kind=Kind.ATTACK)) as prompt:
        assert (prompt.prompt, prompt.request, prompt.image) == ("[request 1]", "[request 1]", None)
        assert (prompt.kind, prompt.modality, prompt.condition) == (Kind.ATTACK, Modality.TEXT, Condition.NO_IMAGE)
        assert prompt.group == prompt_key("[request 1]")


def test_drawn_words_are_the_picture_of_the_typographic_twin(tmp_path: Path) -> None:
    suite = Suite(
        name="toy", title="Toy", kind=Kind.BENIGN, modality=Modality.TEXT, source="test", licence="none",
        items=lambda: [Item("Name a colour")],
    )  # fmt: skip
    (twin,) = typographic_twin(suite).prompts(Setting(tmp_path))
    with as_prompt(Request(text="Name a colour", drawn=True)) as prompt:
        assert (prompt.prompt, prompt.request) == (FOLLOW, "Name a colour") == (twin.prompt, twin.request)
        assert (prompt.modality, prompt.group) == (Modality.TYPOGRAPHIC, twin.group)
        assert pixel_key(Image.open(prompt.image)) == pixel_key(Image.open(twin.image))
        kept = Path(prompt.image)
    assert not kept.exists()
    shown = Image.open(io.BytesIO(base64.b64decode(drawn_url("Name a colour").partition(",")[2])))
    assert pixel_key(shown) == pixel_key(Image.open(twin.image))


def test_a_picture_is_gone_when_the_answer_is_over_or_has_failed() -> None:
    url = data_url(Image.new("RGB", (3 * MAX_SIDE, 30), "red"))
    with pytest.raises(ZeroDivisionError), as_prompt(Request(text="What is it?", picture=url)) as prompt:
        assert (prompt.modality, prompt.condition) == (Modality.IMAGE, Condition.REAL)
        assert Image.open(prompt.image).size == (MAX_SIDE, 10)
        path = Path(prompt.image)
        raise ZeroDivisionError
    assert not path.exists()


BAD = {
    "no base64": "data:image/png;base64,!!!",
    "no picture": "data:image/png;base64," + base64.b64encode(b"not a picture").decode(),
    "cut off": data_url(Image.effect_noise((64, 64), 50).convert("RGB"))[:2000],
    "an address": "https://example.org/picture.png",
    "a file": "file:///etc/hostname",
}


@pytest.mark.parametrize("name", BAD)
def test_a_bad_picture_is_one_line(name: str) -> None:
    with pytest.raises(UserError, match="not a readable image"), as_prompt(Request(text="x", picture=BAD[name])):
        pass


def test_nothing_and_too_much() -> None:
    with pytest.raises(UserError, match="nothing is asked"), as_prompt(Request(text="  ")):
        pass
    with pytest.raises(UserError, match="no words to draw"), as_prompt(Request(drawn=True, picture=BAD["no picture"])):
        pass
