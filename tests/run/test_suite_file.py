"""The user's own questions: checked whole before anything runs, every mistake named by its line and never repeated."""

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image

from unsay.config import RunConfig
from unsay.errors import UserError
from unsay.records import Condition, Kind, Modality
from unsay.run.directory import Run
from unsay.run.suites import build_suites, read_suite_file

SECRET = "the-value-that-must-not-be-repeated"


@pytest.fixture
def ask(tmp_path):
    """Writes rows (or raw lines) to a suite file in a folder with a good and a bad picture; gives its suites."""
    folder = tmp_path / "mine"
    (folder / "pictures").mkdir(parents=True)
    Image.new("RGB", (9, 9), "red").save(folder / "pictures" / "red.png")
    (folder / "broken.png").write_bytes((folder / "pictures" / "red.png").read_bytes()[:40])

    def call(*rows):
        path = folder / "my questions.jsonl"
        path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
        return read_suite_file(path)

    return call


def row(number="1", **more):
    return {"id": number, "prompt": "Hello?", "kind": "benign", **more}


def test_questions_become_suites_by_kind(ask, tmp_path):
    found = ask(
        row("a", image=None),
        row("b", kind="attack", image="pictures/red.png", request="What the picture asks", category="toy"),
        row(3, kind="attack"),
    )
    assert {name: [prompt.id for prompt in rows] for name, rows in found.items()} == {
        "my questions-benign": ["a"],
        "my questions-attack": ["b", "3"],
    }
    pictured, plain = found["my questions-attack"]
    assert (pictured.kind, pictured.modality, pictured.category) == (Kind.ATTACK, Modality.IMAGE, "toy")
    assert pictured.image == str((tmp_path / "mine" / "pictures" / "red.png").resolve())
    assert (pictured.prompt, pictured.request) == ("Hello?", "What the picture asks")
    assert (plain.modality, plain.image, plain.request) == (Modality.TEXT, None, "Hello?")
    assert pictured.group != plain.group
    run = Run.open(tmp_path / "run", RunConfig())
    assert build_suites(run, found, standard=False) == found
    assert len((tmp_path / "run" / "suites" / "my questions-attack.jsonl").read_text().splitlines()) == 2


def test_another_picture_under_the_same_name_is_another_question(ask, tmp_path):
    [[before]] = ask(row(image="pictures/red.png")).values()
    Image.new("RGB", (9, 9), "blue").save(tmp_path / "mine" / "pictures" / "red.png")
    [[after]] = ask(row(image="pictures/red.png")).values()
    assert before.group != after.group


def test_a_question_may_have_a_past_and_a_system_prompt_of_its_own(ask):
    turns = [{"role": "user", "text": "[first]"}, {"role": "assistant", "text": "[answer]"}]
    [[alone, later]] = ask(row("a"), row("b", system="Be brief.", turns=turns)).values()
    assert (alone.system, alone.turns) == (None, ())
    assert later.system == "Be brief."
    assert [(turn.role, turn.text) for turn in later.turns] == [("user", "[first]"), ("assistant", "[answer]")]
    assert alone.group == later.group  # the same request, in another setting


def test_a_picture_that_says_nothing_is_a_condition_of_the_same_request(ask):
    [rows] = ask(
        row("a"),
        row("b", image="pictures/red.png", condition="unrelated image"),
        row("c", image="pictures/red.png"),
    ).values()
    assert [prompt.condition for prompt in rows] == [Condition.NO_IMAGE, Condition.UNRELATED, Condition.REAL]
    assert [prompt.modality for prompt in rows] == [Modality.TEXT, Modality.TEXT, Modality.IMAGE]
    assert rows[0].group == rows[1].group != rows[2].group


USER, ASSISTANT = {"role": "user", "text": "[t]"}, {"role": "assistant", "text": "[t]"}


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (row(kind=SECRET), ":3: kind: Input should be"),
        (row(kind="utility"), ":3: kind: Input should be 'attack' or 'benign'"),
        ({"id": "1", "kind": "benign"}, ":3: prompt: Field required"),
        (row(prompt=""), ":3: prompt: "),
        (row(prompt=[SECRET]), ":3: prompt: "),
        (row(""), ":3: id: "),
        (row("first"), ":3: id: an earlier row has the same one"),
        (row(colour=SECRET), ":3: colour: unknown key"),
        (row(system=""), ":3: system: "),
        (row(turns=[{"role": SECRET, "text": "x"}]), ":3: turns.0.role: Input should be"),
        (row(turns=[{"role": "user"}]), ":3: turns.0.text: Field required"),
        (row(turns=[ASSISTANT, USER]), ":3: turns: turn 1 is the assistant's; user and assistant take turns"),
        (row(turns=[USER, ASSISTANT, ASSISTANT]), ":3: turns: turn 3 is the assistant's"),
        (row(turns=[USER]), ":3: turns: the last is the user's, and the prompt follows"),
        (row(turns=[{"role": "user", "text": " "}]), ":3: turns: turn 1 has no text"),
        (row(condition=SECRET), ":3: condition: Input should be 'no image'"),
        (row(condition="blank image"), ":3: condition: 'blank image' needs an image"),
        (row(condition="no image", image="pictures/red.png"), ":3: condition: 'no image' has none, but image is set"),
        (row(image="missing.png"), ":3: image: "),
        (row(image="broken.png"), "broken.png: not a readable image"),
        (row(image="pictures"), ":3: image: "),
        (row(image="a\0b"), ":3: image: "),
        (f'{{"id": "{SECRET}"', ":3: not JSON"),
        (f'["{SECRET}"]', ":3: "),
    ],
)
def test_a_bad_row_is_named_by_its_line(ask, tmp_path, bad, said):
    with pytest.raises(UserError) as found:
        ask(row("first"), "", bad)
    message = str(found.value)
    assert said in message
    assert message.startswith(str(tmp_path / "mine" / "my questions.jsonl:3"))
    assert SECRET not in message
    assert "\n" not in message
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("content", ["", "\n\n"])
def test_an_empty_file_is_named(ask, content):
    with pytest.raises(UserError, match="holds no questions"):
        ask(content)


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(UserError, match=r"none\.jsonl: no such file"):
        read_suite_file(tmp_path / "none.jsonl")


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.text(alphabet=st.characters(codec="utf-8"), min_size=1), min_size=1, unique=True))
def test_any_words_are_taken_as_they_are(ask, texts):
    [rows] = ask(*(row(text, prompt=text) for text in texts)).values()
    assert [prompt.prompt for prompt in rows] == texts


def test_a_file_that_is_called_like_a_benchmark_gets_a_name_of_its_own(tmp_path):
    path = tmp_path / "figstep.jsonl"
    path.write_text(json.dumps(row()) + "\n" + json.dumps(row("2", kind="attack")) + "\n")
    found = read_suite_file(path)
    assert set(found) == {"figstep-file-benign", "figstep-attack"}  # there is a suite figstep-benign
