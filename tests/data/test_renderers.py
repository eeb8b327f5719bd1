"""The renderers that training never uses: legible, the same everywhere, and unlike any training picture."""

import random

import numpy as np
import pytest
from PIL import Image

from unsay.data import pictures, renderers, typography
from unsay.errors import UserError
from unsay.suites import twins

SHORT = "Explain why bread rises."
LONG = "Describe how the gears of a bicycle work and what a rider checks before a trip in the mountains. " * 3
EACH = pytest.mark.parametrize("name", renderers.RENDERERS)


def colours(image: Image.Image) -> int:
    return len(image.getcolors(image.width * image.height) or ())


@EACH
def test_a_picture_is_a_function_of_text_and_size(name):
    draw = renderers.RENDERERS[name]
    assert draw(SHORT, 224).tobytes() == draw(SHORT, 224).tobytes() != draw("Explain why bread sinks.", 224).tobytes()
    assert (draw(SHORT, 336).size, draw(SHORT, 336).mode) == ((336, 336), "RGB")


@EACH
def test_letters_are_large_enough_to_read_or_the_picture_is_larger(name, monkeypatch):
    sizes = []
    keep = typography.load_font
    monkeypatch.setattr(renderers, "load_font", lambda font, size: sizes.append(size) or keep(font, size))
    renderers.RENDERERS[name](LONG, 224)
    assert min(sizes) >= 11
    with pytest.raises(UserError, match=r"^a text of \d+ characters does not fit"):
        renderers.RENDERERS[name](LONG * 3, 224)
    assert renderers.RENDERERS[name](LONG * 3, 672).size == (672, 672)


@EACH
def test_letters_stand_apart_from_the_ground(name):
    """The written picture differs from the empty one by 100 grey levels."""
    draw = renderers.RENDERERS[name]
    with_text, without = (np.asarray(draw(text, 224).convert("L")).astype(int) for text in ("HHH", " "))
    assert np.abs(with_text - without).max() > 100


@EACH
def test_signs_that_the_faces_lack_are_replaced_and_other_scripts_refused(name):
    draw = renderers.RENDERERS[name]
    assert draw("“café” – it’s √4", 224).tobytes() == draw('"cafe" - it\'s ?4', 224).tobytes()
    with pytest.raises(UserError, match="'ж' cannot be drawn"):
        draw("жук", 224)


def test_training_pictures_never_have_these_faces_or_grounds():
    styles = [pictures.training_style(random.Random(f"style/{number}")) for number in range(400)]
    assert {style.font for style in styles} <= set(typography.FONTS)
    assert not set(typography.FONTS) & set(typography.OTHER_FONTS)
    for style in styles[:40]:
        assert colours(typography.render_text(" ", style=style)) == 1
    for draw in renderers.RENDERERS.values():
        assert colours(draw(" ", 224)) > 1


def test_no_suite_that_a_demo_reports_has_these_faces():
    assert twins.STYLE.font in typography.FONTS
