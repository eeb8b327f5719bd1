"""Training examples in every modality: settings, the user's own images, the retain mix, and whole runs."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from helpers import tiny
from unsay import api
from unsay.config import RunConfig, parse_config
from unsay.errors import UserError
from unsay.files import read_json, read_rows, write_rows
from unsay.records import Example, Modality, Role
from unsay.run.directory import Run
from unsay.run.examples import TrainingExamples, prepare_examples, read_examples
from unsay.run.overlap import Overlap
from unsay.run.suites import read_suite_file
from unsay.run.train import training_settings

pytestmark = pytest.mark.usefixtures("unmeasured_judge")


# ------------------------------------------------------------------------------------------------------------ settings


def test_text_is_the_default_and_shares_are_kept():
    assert RunConfig().data.modality is Modality.TEXT
    assert RunConfig().data.retain_modality is None
    data = parse_config("data: {modality: image, retain_modality: {text: 1, image: 2}}", "x").data
    assert data.modality is Modality.IMAGE
    assert data.retain_modality == {Modality.TEXT: 1, Modality.IMAGE: 2}


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ("pixels", "modality: must be text, typographic, image, or shares of them"),
        ("{text: 0.5, pixels: 0.5}", "modality: must be text"),
        ("{}", "modality: must be text"),
        ("{text: 0}", "modality: every share is 0"),
        ("{text: -1}", "data.modality"),
        ("[text]", "modality: must be text"),
        ("3", "modality: must be text"),
        ("null", "modality: must be text"),
    ],
)
def test_bad_modalities_are_named(value, said):
    with pytest.raises(UserError) as caught:
        parse_config(f"data: {{modality: {value}}}", "my.yaml")
    assert said in str(caught.value)
    assert str(caught.value).startswith("my.yaml")
    assert "\n" not in str(caught.value)


@given(st.recursive(st.none() | st.booleans() | st.floats() | st.text(), lambda inner: st.lists(inner, max_size=3) |
                    st.dictionaries(st.text() | st.sampled_from(["text", "image"]), inner, max_size=3)))  # fmt: skip
def test_any_modality_is_taken_or_refused_in_one_line(value):
    try:
        config = parse_config(json.dumps({"data": {"modality": value}}), "my.yaml")
    except UserError as error:
        assert "\n" not in str(error)
    else:
        assert config.data.modality in list(Modality) or sum(config.data.modality.values()) > 0


# ---------------------------------------------------------------------------------------------------- your own pictures


def own(folder, *images):
    rows = tiny.examples(12)
    rows = [row.model_copy(update={"image": images[0]}) if images and not n % 2 else row for n, row in enumerate(rows)]
    write_rows(folder / "own.jsonl", rows)
    return folder / "own.jsonl"


def test_own_images_are_relative_to_the_file(tmp_path):
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (40, 30), "red").save(tmp_path / "pictures" / "a.png")
    examples, probe = read_examples(own(tmp_path, "pictures/a.png"), 1, 0)
    images = {row.image for row in [*examples, *probe]}
    assert images == {None, str(tmp_path / "pictures" / "a.png")}


@pytest.mark.parametrize("content", [None, b"", b"no picture", b"\x89PNG\r\n\x1a\n" + b"\0" * 30])
def test_a_bad_own_image_is_named_with_its_line(tmp_path, content):
    if content is not None:
        (tmp_path / "a.png").write_bytes(content)
    rows = tiny.examples(1)
    write_rows(tmp_path / "own.jsonl", [rows[0], rows[1].model_copy(update={"image": "a.png"})])
    with pytest.raises(
        UserError, match=r"own\.jsonl:2: image: .*a\.png: (no such image|not a readable image)"
    ) as caught:
        read_examples(tmp_path / "own.jsonl", 1, 0)
    assert "\n" not in str(caught.value)


# ------------------------------------------------------------------------------------------------------- the retain mix


def mix_of(tmp_path, sources, settings="", mix="{magpie: 0.6, plain: 0.4}"):
    text = f"data: {{modality: image{settings}}}\ntrain: {{retain_mix: {mix}}}"
    run = Run.open(tmp_path, parse_config(text, "x"))
    rows = [
        Example(id=str(n), role=Role.RETAIN, prompt="a", answer="b", source=source) for n, source in enumerate(sources)
    ]
    return training_settings(run, TrainingExamples(rows, [], {})).retain_mix


def test_a_retain_mix_makes_room_for_visual_questions(tmp_path):
    visual = ["shapes"] * 3 + ["reading"]
    assert mix_of(tmp_path, ["magpie", "plain", *visual]) == pytest.approx(
        {"magpie": 0.45, "plain": 0.3, "shapes": 0.1875, "reading": 0.0625}
    )
    half = ", retain_modality: {text: 0.5, image: 0.5}"
    assert mix_of(tmp_path, ["magpie", "plain", "shapes"], half) == pytest.approx(
        {"magpie": 0.525, "plain": 0.35, "shapes": 0.125}
    )
    named = "{magpie: 0.6, shapes: 0.4}"
    assert mix_of(tmp_path, ["magpie", *visual], mix=named) == {"magpie": 0.6, "shapes": 0.4}
    assert mix_of(tmp_path, ["magpie", "plain"]) == {"magpie": 0.6, "plain": 0.4}
    assert mix_of(tmp_path, visual, mix="null") is None


# ---------------------------------------------------------------------------------------------------------- a whole run


def config(folder, examples, modality, more=""):
    return parse_config(
        f"model: {folder}\ndata: {{examples: {examples}, modality: {modality}, recipe: {{probe: 1}}{more}}}\n"
        "train: {steps: 2, batch: {forget: 2, refuse: 2, retain: 2}, checkpoint_every: 1}\n"
        "evaluation: {judge: rules, suites: [contrast], limit: 2, generation: {max_new_tokens: 2}}\n",
        "test",
    )


def cost(scores, stage):
    return next(row for row in scores.cost if row.stage == stage)


@pytest.mark.parametrize("modality", ["typographic", "image", "{text: 1, typographic: 1}"])
def test_a_run_in_each_modality_trains_and_is_reused(tiny_folder, tmp_path, monkeypatch, modality):
    settings, out = config(tiny_folder, own(tmp_path), modality), tmp_path / "run"
    first = api.unlearn(settings, out)
    rows = read_rows(out / "train" / "examples.jsonl", Example)
    pictured = [row for row in rows if row.image is not None]
    assert len(pictured) == len(rows) or (modality.startswith("{") and 0 < len(pictured) < len(rows))
    assert all((out / row.image).is_file() and row.image.startswith("train/images/") for row in pictured)
    spent = cost(first, "unlearn")
    assert spent.image_tokens % 4 == 0
    assert 0 < spent.image_tokens <= 2 * 6 * 4
    assert spent.text_tokens > 0
    assert len(list((out / "train" / "vision").iterdir())) > 0

    monkeypatch.setattr("unsay.run.directory.load", None)  # nothing is loaded again
    moved = out.rename(tmp_path / "moved")
    assert all(row.reused for row in api.unlearn(settings, moved).cost)


@pytest.mark.parametrize(
    ("method", "modality", "says"),
    [("circuit-breaker", "text", "hidden states"), ("textual-unlearning", "typographic", "has a picture")],
)
def test_what_a_kept_original_cannot_do_is_told_before_it_answers(tiny_folder, tmp_path, method, modality, says):
    settings = config(tiny_folder, own(tmp_path), modality)
    settings = settings.model_copy(
        update={
            "method": method,
            "method_settings": {},
            "train": settings.train.model_copy(update={"reference": "cached"}),
        }
    )
    with pytest.raises(UserError, match=f"train.reference: .*{says}") as caught:
        api.unlearn(settings, tmp_path / "run")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run" / "responses").exists()


def test_a_training_picture_that_is_removed_is_drawn_again(tiny_folder, tmp_path):
    settings, out = config(tiny_folder, own(tmp_path), "typographic"), tmp_path / "run"
    api.unlearn(settings, out)
    path = sorted((out / "train" / "images").iterdir())[0]
    content = path.read_bytes()
    path.unlink()
    again = api.unlearn(settings, out)
    assert path.read_bytes() == content
    assert not cost(again, "examples").reused
    assert cost(again, "unlearn").reused  # the same pictures: the same adapter


def test_text_with_pictures_of_your_own_and_an_edited_picture_trains_again(tiny_folder, tmp_path):
    Image.new("RGB", (40, 30), "red").save(tmp_path / "a.png")
    settings, out = config(tiny_folder, own(tmp_path, "a.png"), "text"), tmp_path / "run"
    first = api.unlearn(settings, out)
    assert cost(first, "unlearn").image_tokens > 0
    assert not (out / "train" / "images").exists()
    Image.new("RGB", (40, 30), "blue").save(tmp_path / "a.png")
    again = api.unlearn(settings, out)
    assert not cost(again, "unlearn").reused


def test_text_examples_are_byte_for_byte_those_of_a_run_without_the_setting(tiny_folder, tmp_path):
    path = own(tmp_path)
    api.unlearn(config(tiny_folder, path, "text"), tmp_path / "run")
    rows = read_rows(tmp_path / "run" / "train" / "examples.jsonl", Example)
    given_rows = {row.id: row for row in read_rows(path, Example)}
    assert rows
    assert all(row == given_rows[row.id] for row in rows)
    assert read_json(tmp_path / "run" / "stages" / "unlearn.json")["image_tokens"] == 0
    assert not (tmp_path / "run" / "train" / "vision").exists()


def test_a_picture_that_takes_the_place_of_an_own_questions_is_looked_at(tiny_folder, tmp_path):
    Image.new("RGB", (40, 30), "red").save(tmp_path / "trained.png")
    settings = config(tiny_folder, own(tmp_path, "trained.png"), "text")
    questions, picture = tmp_path / "mine.jsonl", tmp_path / "asked.png"
    row = {"id": "1", "prompt": "What does it say?", "image": picture.name, "kind": "attack"}
    questions.write_text(json.dumps(row) + "\n")

    def prepare(colour):
        Image.new("RGB", (40, 30), colour).save(picture)
        run = Run.open(tmp_path / "run", settings)
        prepare_examples(run, read_suite_file(questions))
        return run.stages.records[-1][1]

    assert [prepare(colour) for colour in ("white", "white", "black")] == [False, True, False]
    with pytest.raises(UserError, match=r"overlap .*\(mine-attack 18\)"):
        prepare("red")
    assert {row.by for row in read_rows(tmp_path / "run/train/overlaps.jsonl", Overlap)} == {"picture"}
