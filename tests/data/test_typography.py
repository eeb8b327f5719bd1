"""Text and shapes as pictures: they fit, they are the same everywhere, and what is asked has one right answer."""

import random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from unsay.data import shape_scenes, typography
from unsay.errors import UserError

printable = st.text(st.characters(min_codepoint=32, max_codepoint=126) | st.just("\n"), max_size=300)


@settings(max_examples=40, deadline=None)
@given(printable, st.integers(0, 10_000))
def test_every_visible_character_is_laid_out_once_and_inside(text, seed):
    style = typography.random_style(random.Random(seed))
    layout = typography.lay_out(text, style=style)
    where = {index: (x, y) for index, x, y in layout.centres()}
    assert len(where) == len(layout.centres())
    for index, character in enumerate(text):
        if not character.isspace():
            x, y = where[index]
            assert 0 <= x < 224
            assert 0 <= y < 224
    for line in layout.lines:
        assert text[line.start : line.start + len(line.text)] == line.text


def test_ink_stands_where_the_centres_say():
    style = typography.Style(size=30, across=0.5, down=0.5)
    pixels = np.asarray(typography.render_text("HM", style=style).convert("L"))
    for _, x, y in typography.lay_out("HM", style=style).centres():
        assert pixels[int(y) - 8 : int(y) + 8, int(x) - 8 : int(x) + 8].min() < 100
    assert pixels[:60].min() == 255


def test_long_text_is_drawn_smaller_and_too_long_text_is_refused():
    long = "several words " * 40
    assert typography.lay_out(long, style=typography.Style(size=34)).style.size < 18
    with pytest.raises(UserError, match="does not fit"):
        typography.render_text(long * 20, style=typography.Style())


@pytest.mark.parametrize("font", typography.FONTS)
def test_letters_that_a_face_lacks_are_named_and_not_drawn_as_boxes(font):
    style = typography.Style(font=font)
    with pytest.raises(UserError, match=r"^the letter '学' cannot be drawn: the face DejaVu"):
        typography.render_text("swim: 学游泳", style=style)
    for text in ("é ü ñ ł ß", "‘quotes’ “and” dashes – — …", "Привет, α", "✓ → • 🙂 \u200b", "x\ty"):
        typography.render_text(text, style=style)
    assert typography.missing_letter("swim: 学游泳") == "学"


def test_equal_seeds_give_equal_pictures_and_styles_differ():
    def picture(seed):
        style = typography.random_style(random.Random(seed))
        return typography.render_text("the same words", style=style).tobytes()

    assert picture(3) == picture(3)
    assert len({picture(seed) for seed in range(12)}) == 12


def test_random_styles_are_legible():
    for seed in range(200):
        style = typography.random_style(random.Random(seed))
        brightness = [float(np.dot(colour, (0.299, 0.587, 0.114))) for colour in (style.ink, style.paper)]
        assert abs(brightness[0] - brightness[1]) >= 90


def test_all_fonts_exist_and_differ():
    drawn = {
        typography.render_text("Quick gnomes", style=typography.Style(font=font)).tobytes() for font in typography.FONTS
    }
    assert len(drawn) == len(typography.FONTS) == 12
    with pytest.raises(UserError, match="Arial"):
        typography.render_text("x", style=typography.Style(font="Arial"))


def test_list_has_its_empty_points_below_the_topic():
    assert typography.list_text("Ways to bake bread.") == "Ways to bake bread.\n1.\n2.\n3."
    plain = typography.render_text("Ways to bake bread.", style=typography.Style())
    listed = typography.render_list("Ways to bake bread.", style=typography.Style())
    difference = np.abs(np.asarray(plain).astype(int) - np.asarray(listed)).sum(axis=(1, 2)).nonzero()[0]
    assert difference.min() > 28  # the topic's own line is untouched


def test_png_comes_back_as_it_was(tmp_path):
    image = typography.render_text("saved", style=typography.Style())
    typography.save_png(image, tmp_path / "deep" / "a.png")
    assert np.array_equal(np.asarray(Image.open(tmp_path / "deep" / "a.png")), np.asarray(image))
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["a.png"]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 100_000))
def test_answers_agree_with_the_scene(seed):
    scene = shape_scenes.random_scene(random.Random(seed))
    kinds = [shape.kind for shape in scene.shapes]
    for question in shape_scenes.questions(scene, random.Random(seed)):
        if question.topic == "count" and "shapes" not in question.question:
            kind = next(kind for kind in shape_scenes.KINDS if shape_scenes.plural(kind) in question.question)
            assert shape_scenes.NUMBERS[kinds.count(kind)] == question.answer
        elif question.topic == "exists":
            pairs = {f"{shape.colour} {shape.kind}" for shape in scene.shapes}
            assert (question.answer == "yes") == any(pair in question.question for pair in pairs)
        elif question.topic == "colour":
            (shape,) = [one for one in scene.shapes if one.kind in question.question]
            assert shape.colour == question.answer
        elif question.topic == "kind":
            (shape,) = [one for one in scene.shapes if one.colour in question.question]
            assert shape.kind == question.answer
        elif question.topic == "side":
            (shape,) = [one for one in scene.shapes if one.kind in question.question]
            assert question.answer == ("left" if shape.x < 0.5 else "right")


def test_shapes_have_their_colour_at_their_centre():
    for seed in range(40):
        scene = shape_scenes.random_scene(random.Random(seed))
        image = shape_scenes.render_scene(scene)
        for shape in scene.shapes:
            assert image.getpixel((int(shape.x * 224), int(shape.y * 224))) == shape_scenes.COLOURS[shape.colour]


def test_all_topics_are_asked_about():
    topics = {
        question.topic
        for seed in range(20)
        for question in shape_scenes.questions(shape_scenes.random_scene(random.Random(seed)))
    }
    assert topics == {"colour", "count", "exists", "kind", "side"}
