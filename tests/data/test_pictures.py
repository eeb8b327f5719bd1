"""Training pictures: what they show, and that none of it is the evaluation's."""

import random
from collections import Counter
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unsay.data import pictures, shape_scenes
from unsay.data.pictures import VISUAL, Rendering, shares, visual_questions
from unsay.data.recipe import RecipeSettings
from unsay.data.splits import normalise
from unsay.errors import UserError
from unsay.records import Example, Modality, Role, SourceRow
from unsay.suites import shapes, transcription, twins
from unsay.suites.base import Setting

TEXT, TYPOGRAPHIC, IMAGE = Modality
LISTS = RecipeSettings(lists=0.5, retain_lists=0.5)


def rows(count, role=Role.FORGET):
    return [
        Example(
            id=f"{role.value}-{number}", role=role, prompt=f"Please: say number {number}", answer=f"It is {number}.",
            source="toy", request=f"Say number {number}",
        )
        for number in range(count)
    ]  # fmt: skip


def rendering(tmp_path, harmful, retain=None, settings=LISTS, seed=0):
    return Rendering(shares(harmful), shares(retain if retain is not None else harmful), settings, seed, tmp_path)


# -------------------------------------------------------------------------------------------------------------- shares


def test_shares_by_hand():
    assert shares(TYPOGRAPHIC) == {TYPOGRAPHIC: 1.0}
    assert shares({TEXT: 1, IMAGE: 3}) == {TEXT: 0.25, IMAGE: 0.75}
    assert shares({TEXT: 2, TYPOGRAPHIC: 0}) == {TEXT: 1.0}


def test_text_examples_are_not_touched(tmp_path):
    given_rows = rows(20)
    made = rendering(tmp_path / "none", TEXT).render(given_rows)
    assert all(one is other for one, other in zip(made, given_rows, strict=True))
    assert not (tmp_path / "none").exists()


def test_a_mixture_has_its_shares_and_keeps_ids_answers_and_order(tmp_path):
    given_rows = rows(200)
    made = rendering(tmp_path, {TEXT: 0.5, IMAGE: 0.5}).render(given_rows)
    assert [(row.id, row.answer, row.request) for row in made] == [(r.id, r.answer, r.request) for r in given_rows]
    pictured = sum(row.image is not None for row in made)
    assert 75 < pictured < 125  # 100 ± 3.5 standard deviations
    # Beside a picture the words are those of the text example.
    assert [row.prompt for row in made] == [row.prompt for row in given_rows]


def test_the_same_seed_draws_the_same_and_another_one_other_pictures(tmp_path):
    def pictures(folder, seed):
        made = rendering(tmp_path / folder, {TEXT: 1, TYPOGRAPHIC: 1, IMAGE: 1}, seed=seed).render(rows(12))
        return [(row.prompt, None if row.image is None else Path(row.image).read_bytes()) for row in made]

    assert pictures("a", 0) == pictures("b", 0) != pictures("c", 1)


def test_the_modality_of_an_example_does_not_hang_on_the_others(tmp_path):
    mixed = rendering(tmp_path, {TEXT: 1, TYPOGRAPHIC: 1, IMAGE: 1})
    alone = [mixed.render([row])[0] for row in rows(12)]
    assert alone == mixed.render(rows(12))


def test_retain_has_shares_of_its_own(tmp_path):
    """Harmful data in words with benign data as pixels: the issue's own idea."""
    made = rendering(tmp_path, TEXT, TYPOGRAPHIC).render(rows(5) + rows(5, Role.RETAIN))
    assert [row.image is not None for row in made] == [False] * 5 + [True] * 5


def test_typographic_prompts_do_not_say_the_request_in_words(tmp_path):
    made = rendering(tmp_path, TYPOGRAPHIC).render(rows(40))
    assert not any("number" in row.prompt for row in made)
    assert {row.prompt for row in made} <= {*pictures.FOLLOW, *pictures.COMPLETE}
    lists = sum(row.prompt in pictures.COMPLETE for row in made)
    assert 8 < lists < 32
    assert len({Path(row.image).read_bytes() for row in made}) == 40


def test_a_picture_that_is_there_stays(tmp_path):
    own = rows(1)[0].model_copy(update={"image": "mine.png"})
    assert rendering(tmp_path, TYPOGRAPHIC).render([own]) == [own]


def test_a_request_too_long_to_draw_is_named_and_not_repeated(tmp_path):
    long = rows(1)[0].model_copy(update={"request": "word " * 2000})
    with pytest.raises(UserError, match=r"^example forget-0: a text of \d+ characters does not fit") as caught:
        rendering(tmp_path, TYPOGRAPHIC).render([long])
    assert "word" not in str(caught.value)


# ---------------------------------------------------------------------------------------------------- visual questions


TEXTS = [SourceRow(text=f"Tell me what the number {number} means", source="toy") for number in range(30)]


def test_visual_questions_go_by_the_shares_of_retain(tmp_path):
    made = visual_questions(TEXTS, rendering(tmp_path, TEXT, {TEXT: 6, TYPOGRAPHIC: 3, IMAGE: 1}), 20)
    assert Counter(row.source for row in made) == {"reading": 15, "shapes": 5}
    assert len({row.id for row in made}) == 20
    assert all(row.role is Role.RETAIN and row.image is not None and row.source in VISUAL for row in made)
    readings = [row for row in made if row.source == "reading"]
    assert all(row.answer == row.request and row.answer not in row.prompt for row in readings)
    assert len({row.answer for row in readings}) == 15
    assert visual_questions(TEXTS, rendering(tmp_path, TEXT), 0) == []


def test_no_text_is_read_twice(tmp_path):
    assert len(visual_questions(TEXTS[:3], rendering(tmp_path, TYPOGRAPHIC), 20)) == 3
    long = [SourceRow(text="x" * 71, source="toy")]
    assert visual_questions(long, rendering(tmp_path, TYPOGRAPHIC), 1) == []


@given(st.integers())
def test_a_reworded_question_has_the_same_answer(seed):
    """Answered from the scene, by a reader of the training wordings alone."""
    rng = random.Random(seed)
    scene = pictures.training_scene(rng)
    assert len(scene.shapes) >= 3
    asked, answer = pictures.scene_question(scene, rng)
    words = asked.rstrip("?.").replace(" in this picture", "").replace(" in it", "").split()
    kinds = {form: kind for kind in shape_scenes.KINDS for form in (kind, shape_scenes.plural(kind))}
    kind = next((kinds[word] for word in words if word in kinds), None)
    colour = next((word for word in words if word in shape_scenes.COLOURS), None)
    here = [s for s in scene.shapes if kind in (None, s.kind) and colour in (None, s.colour)]
    if words[0] in ("Count", "Say"):
        expected = shape_scenes.NUMBERS[len(here)]
    elif kind and colour:
        expected = "yes" if here else "no"
    elif "color" in words:
        expected = here[0].colour
    elif colour:
        expected = here[0].kind
    else:
        expected = "left" if here[0].x < 0.5 else "right"
    assert answer == expected


# ------------------------------------------------------------------------------------------- apart from the evaluation


def test_no_suite_has_a_wording_of_training():
    ours = {*pictures.FOLLOW, *pictures.COMPLETE, *pictures.READ}
    theirs = {twins.FOLLOW, twins.FIGSTEP, transcription.QUESTION}
    assert not {normalise(text) for text in ours} & {normalise(text) for text in theirs}
    assert len(ours) == len(pictures.FOLLOW) + len(pictures.COMPLETE) + len(pictures.READ)


def test_no_scene_and_no_question_is_the_suites(tmp_path):
    suite = shapes.SUITE.prompts(Setting(tmp_path / "suite", None))
    theirs = {Path(row.image).read_bytes() for row in suite}
    made = visual_questions([], rendering(tmp_path / "ours", TEXT, IMAGE), 60)
    assert not theirs & {Path(row.image).read_bytes() for row in made}
    assert not {normalise(row.prompt) for row in suite} & {normalise(row.prompt) for row in made}
    # Whatever the suite draws has one or two shapes.
    counts = {len(shapes._scene(random.Random(f"shapes/{number}")).shapes) for number in range(96)}
    assert max(counts) < pictures.LEAST_SHAPES


@given(st.integers(), st.text(alphabet="abcdefgh ", min_size=1, max_size=40))
def test_no_style_and_no_list_is_the_suites(seed, text):
    rng = random.Random(seed)
    style = pictures.training_style(rng)
    assert min(style.paper) <= pictures.PALEST < min(transcription.reading_style(text).paper)
    assert style.paper != twins.STYLE.paper
    heading, *points = pictures.list_text(f"How to {text}", rng).split("\n")
    assert not heading.startswith(tuple(pictures.HEADINGS))
    assert points != ["1.", "2.", "3."]
    assert len(points) >= 2


def test_styles_have_several_faces_sizes_and_colours():
    styles = [pictures.training_style(random.Random(seed)) for seed in range(200)]
    assert len({style.font for style in styles}) > 8
    assert len({style.size for style in styles}) > 8
    assert len({style.paper for style in styles}) > 150
    plain = sum(style.font in pictures.PLAIN_FACES for style in styles)
    assert plain > 100
