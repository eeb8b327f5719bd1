"""`unsay examples`: data of any usual shape becomes training examples; what is broken is named by line, never shown."""

import json
from functools import partial

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from helpers.harmful import harmful_examples
from unsay.data.recipe import OwnAnswer, RecipeSettings
from unsay.data.row_formats import Fields, UnfitError, read_row
from unsay.errors import UserError
from unsay.files import read_rows, write_rows
from unsay.records import Example, Role, SourceRow
from unsay.run import directory as pipeline_run
from unsay.run.examples import read_examples
from unsay.run.make_examples import MakeSettings, count_cut, drop_overlaps, make_examples, relative_to
from unsay.suites import Setting, get_suite

FORGET = MakeSettings(role=Role.FORGET)


def written(folder, *rows):
    path = folder / "in.jsonl"
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def said(examples):
    return [(row.role.value, row.prompt, row.answer) for row in examples]


def turn(role, content):
    return {"role": role, "content": content}


def spoken(speaker, value):
    return {"from": speaker, "value": value}


# --------------------------------------------------------------------------------------------------------------- shapes


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "[request 1]", "response": "[answer]"},
        {"prompt": "[request 1]", "answer": "[answer]"},
        {"prompt": "[request 1]", "answer": "[answer]", "role": "forget", "id": "7", "source": "x"},
        {"prompt": [turn("user", "[request 1]")], "response": [turn("assistant", "[answer]")]},
        {"messages": [turn("user", "[request 1]"), turn("assistant", "[answer]")]},
        {"messages": [turn("user", [{"type": "text", "text": "[request 1]"}]), turn("assistant", "[answer]")]},
        {"conversations": [spoken("human", "[request 1]"), spoken("gpt", "[answer]")], "id": "7"},
        {"conversations": [spoken("user", "[request 1]"), spoken("assistant", "[answer]")]},
        {"conversations": [turn("user", "[request 1]"), turn("assistant", "[answer]")]},
    ],
)
def test_a_prompt_with_an_answer_in_every_shape(tmp_path, row):
    made = make_examples(written(tmp_path, row), FORGET)
    assert said(made.examples) == [("forget", "[request 1]", "[answer]")]
    (one,) = made.examples
    assert one.source == "in.jsonl"
    assert one.id.startswith("forget-")


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "[request 1]", "chosen": "[no]", "rejected": "[yes]"},
        {"prompt": "[request 1]", "chosen": [turn("assistant", "[no]")], "rejected": [turn("assistant", "[yes]")]},
        {
            "chosen": [turn("user", "[request 1]"), turn("assistant", "[no]")],
            "rejected": [turn("user", "[request 1]"), turn("assistant", "[yes]")],
            "messages": [],
        },
    ],
)
def test_of_preference_pairs_one_is_forgotten_and_one_refuses(tmp_path, row):
    made = make_examples(written(tmp_path, row), MakeSettings(role=Role.RETAIN))
    assert said(made.examples) == [("forget", "[request 1]", "[yes]"), ("refuse", "[request 1]", "[no]")]


def test_fields_of_other_names_are_read(tmp_path):
    row = {"question": "[request 1]", "best": "[answer]", "prompt": "x", "response": "y", "messages": []}
    made = make_examples(written(tmp_path, row), MakeSettings(role=Role.RETAIN, fields=Fields("question", "best")))
    assert said(made.examples) == [("retain", "[request 1]", "[answer]")]
    pair = {"question": "[request 1]", "chosen": "[no]", "rejected": "[yes]"}
    made = make_examples(written(tmp_path, pair), MakeSettings(fields=Fields("question")))
    assert [row.prompt for row in made.examples] == ["[request 1]"] * 2


def test_a_request_alone_is_refused_as_the_recipe_refuses_it(tmp_path):
    made = make_examples(written(tmp_path, {"prompt": "[request 1]"}), MakeSettings(role=Role.REFUSE))
    recipe = harmful_examples([SourceRow(text="[request 1]", source="toy")], [], RecipeSettings(), 0)
    assert [row.answer for row in made.examples] == [row.answer for row in recipe]
    forget = {"prompt": "[request 1]", "response": "[answer]"}
    both = make_examples(written(tmp_path, forget), MakeSettings(role=Role.FORGET, refuse_too=True, refusals=2))
    assert [row.role.value for row in both.examples] == ["forget", "refuse", "refuse"]
    refused = [forget, {**forget, "role": "refuse", "response": "[no]"}]
    assert (
        len(make_examples(written(tmp_path, *refused), MakeSettings(role=Role.FORGET, refuse_too=True)).examples) == 2
    )


def test_ids_are_of_the_content_and_exact_duplicates_are_dropped(tmp_path):
    rows = [{"prompt": "a", "response": "b"}, {"prompt": "a", "response": "c"}]
    made = make_examples(written(tmp_path, *rows, *rows), FORGET)
    assert (len(made.examples), made.repeated) == (2, 2)
    again = make_examples(written(tmp_path, *reversed(rows)), FORGET)
    assert {row.id for row in again.examples} == {row.id for row in made.examples}
    assert len({row.id for row in made.examples}) == 2


def test_pictures_are_read_and_named_from_where_the_file_goes(tmp_path):
    (tmp_path / "data" / "pictures").mkdir(parents=True)
    Image.new("RGB", (8, 8), "red").save(tmp_path / "data" / "pictures" / "a.png")
    picture = "pictures/a.png"
    rows = [
        {"prompt": "[request 1]", "response": "[answer]", "image": picture},
        {"prompt": "[request 2]", "response": "[answer]", "images": [picture], "request": "[what it says]"},
        {"messages": [turn("user", [{"type": "image"}, {"type": "text", "text": "[request 3]"}]),
                      turn("assistant", "[answer]")], "image": picture},
        {"messages": [turn("user", [{"type": "image", "image": picture}, {"type": "text", "text": "[request 4]"}]),
                      turn("assistant", "[answer]")]},
        {"conversations": [spoken("human", "<image>\n[request 5]"), spoken("gpt", "[answer]")], "image": picture},
        {"conversations": [spoken("human", "[request 6]\n<image>"), spoken("gpt", "[answer]")], "images": [picture]},
        {"conversations": [spoken("human", "[request 7]"), spoken("gpt", "[answer]")], "image": picture},
    ]  # fmt: skip
    made = make_examples(written(tmp_path / "data", *rows), FORGET)
    assert [row.prompt for row in made.examples] == [f"[request {n}]" for n in range(1, 8)]
    assert [row.request for row in made.examples] == [None, "[what it says]", *[None] * 5]
    assert {row.image for row in relative_to(tmp_path, made.examples)} == {"data/pictures/a.png"}


def test_pictures_are_found_again_whatever_links_lead_to_the_file(tmp_path):
    (tmp_path / "far" / "away").mkdir(parents=True)
    (tmp_path / "pictures").mkdir()
    Image.new("RGB", (8, 8), "red").save(tmp_path / "pictures" / "a.png")
    (tmp_path / "pictures" / "b.png").symlink_to("a.png")
    (tmp_path / "here").symlink_to(tmp_path / "far" / "away")
    (tmp_path / "there").symlink_to(tmp_path / "pictures")
    rows = [{"prompt": f"[request {n}]", "response": "[answer]", "image": f"{folder}/{name}"}
            for n, (folder, name) in enumerate([("pictures", "a.png"), ("there", "b.png")])]  # fmt: skip
    made = make_examples(written(tmp_path, *rows), FORGET)
    out = tmp_path / "here" / "examples.jsonl"
    write_rows(out, relative_to(out.parent, made.examples))
    examples, _ = read_examples(out.resolve(), 1, 0)  # as a run's settings lead there
    assert [row.image for row in examples] == [str(tmp_path / "pictures" / name) for name in ("a.png", "b.png")]


# --------------------------------------------------------------------------------------------------------------- broken


BROKEN = {
    "not JSON": "{",
    "no JSON object": "[1]",
    "no prompt": {"text": "SECRET"},
    "an empty prompt": {"prompt": " ", "response": "SECRET"},
    "an empty answer": {"prompt": "SECRET", "response": ""},
    "a prompt that is no text": {"prompt": {"SECRET": 1}},
    "an answer that is no text": {"prompt": "SECRET", "response": 3},
    "a preference without both answers": {"prompt": "SECRET", "chosen": "SECRET"},
    "a role that is none of forget": {"prompt": "SECRET", "response": "b", "role": "SECRET"},
    "half a character in the answer": '{"prompt": "SECRET", "response": "\\ud800"}',
    "a system prompt": {"messages": [turn("system", "SECRET"), turn("user", "a"), turn("assistant", "b")]},
    "a turn that is neither": {"messages": [turn("tool", "SECRET")]},
    "more than a question": {"messages": [turn("user", "SECRET"), turn("assistant", "b"), turn("user", "c")]},
    "neither text nor a picture": {"messages": [turn("user", [{"type": "audio", "text": "SECRET"}])]},
    "no list of turns": {"messages": "SECRET"},
    "a conversation that is no list of turns": {"conversations": {"SECRET": 1}},
    "conversation of more than a question": {"conversations": [spoken("human", "SECRET"), spoken("gpt", "b")] * 2},
    "which no example can hold": {"conversations": [spoken("system", "SECRET"), spoken("human", "a")]},
    "neither the user's nor the assistant's": {"conversations": [spoken("SECRET", "a")]},
    "a picture without a path": {"conversations": [spoken("human", "<image>\nSECRET"), spoken("gpt", "b")]},
    "a picture in an answer": {"conversations": [spoken("human", "a"), spoken("gpt", "SECRET <image>")]},
    "missing or cannot be read": {"prompt": "SECRET", "response": "b", "image": "SECRET.png"},
    "several pictures": {"prompt": "SECRET", "response": "b", "images": ["a.png", "SECRET.png"]},
    "named by no path": {"prompt": "SECRET", "response": "b", "image": {"bytes": "SECRET"}},
    "neither true nor false": {"prompt": "SECRET", "response": "b", "complete": "SECRET"},
    "no answer to forget": {"prompt": "SECRET"},
}


@pytest.mark.parametrize("reason", BROKEN)
def test_a_broken_row_is_named_by_its_line_and_never_shown(tmp_path, reason):
    path = written(tmp_path, {"prompt": "a", "response": "b"}, "", BROKEN[reason])
    with pytest.raises(UserError, match=r"1 of 2 rows cannot be used: .*\(line 3\)") as caught:
        make_examples(path, FORGET)
    assert reason in str(caught.value)
    assert "SECRET" not in str(caught.value)
    made = make_examples(path, MakeSettings(role=Role.FORGET, skip_broken=True))
    assert len(made.examples) == 1
    assert list(made.broken.values()) == [[3]]


def test_what_is_broken_alike_is_counted_and_only_some_lines_are_named(tmp_path):
    rows = [{"messages": [turn("user", "a"), turn("assistant", "b")] * 2}] * 12
    with pytest.raises(UserError, match=r"12 of 13 rows .*\(12 rows: lines 2, 3, 4, 5, 6, …\)"):
        make_examples(written(tmp_path, {"prompt": "a", "response": "b"}, *rows), FORGET)
    with pytest.raises(UserError, match="no role: give --role"):
        make_examples(written(tmp_path, {"prompt": "a", "response": "b"}), MakeSettings())
    with pytest.raises(UserError, match="its 0 rows give no example"):
        make_examples(written(tmp_path), FORGET)


TEXTS = st.text(max_size=5) | st.sampled_from(
    ["user", "assistant", "human", "gpt", "<image>", "text", "image", "forget"]
)
KEYS = ["prompt", "response", "answer", "chosen", "rejected", "messages", "conversations", "image", "images", "role",
        "content", "from", "value", "type", "text", "request", "category", "complete"]  # fmt: skip
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(KEYS), inner, max_size=4),
    max_leaves=12,
)


@given(st.dictionaries(st.sampled_from(KEYS), VALUES, max_size=5).map(json.dumps) | VALUES.map(json.dumps) | st.text())
def test_any_line_is_read_or_refused_with_a_reason_that_repeats_nothing(line):
    try:
        found = read_row(line, Fields())
    except UnfitError as error:
        assert str(error) in REASONS
    else:
        for one in found:
            assert one.prompt.strip()
            assert one.answer is None or one.answer.strip()
            fields = {name: getattr(one, name) for name in ("prompt", "image", "request", "category", "complete")}
            row = Example(id="1", role=Role.RETAIN, answer=one.answer or "x", source="s", **fields)
            assert Example.model_validate_json(row.model_dump_json().encode()) == row


WHATS = ("prompt", "answer", "request", "category", "picture's path")
REASONS = {
    "not JSON",
    "no JSON object",
    "no prompt",
    *(f"an empty {what}" for what in WHATS),
    *(f"half a character in the {what}" for what in WHATS),
    "a prompt that is no text",
    "an answer that is no text",
    "a preference without both answers",
    "a conversation that is no list of turns",
    "a system prompt, which no example can hold",
    "a turn that is neither the user's nor the assistant's",
    "a turn with a part that is neither text nor a picture",
    "a picture in an answer",
    "a conversation of more than a question and an answer",
    "`complete` that is neither true nor false",
    "a picture that is named by no path",
    "several pictures, where an example holds one",
    "a picture without a path",
    "a role that is none of forget, refuse and retain",
}


# ------------------------------------------------------------------------------------ answers, overlaps, long answers


def test_a_model_is_asked_for_what_has_no_answer_and_only_for_that(tmp_path):
    asked = {}

    def answering(role, rows):
        asked[role] = [row.text for row in rows]
        return [OwnAnswer(request=row.text, answer="[own]", complete=False) for row in rows if "2" not in row.text]

    rows = [
        {"prompt": "[request 1]"}, {"prompt": "[request 2]"}, {"prompt": "[request 3]", "response": "[given]"},
        {"prompt": "[request 4]", "role": "retain"}, {"prompt": "[Request 1]"},
    ]  # fmt: skip
    made = make_examples(written(tmp_path, *rows), FORGET, answering)
    assert asked == {Role.FORGET: ["[Request 1]", "[request 2]"], Role.RETAIN: ["[request 4]"]}  # alike: asked once
    assert said(made.examples) == [
        ("forget", "[request 1]", "[own]"), ("forget", "[request 3]", "[given]"), ("retain", "[request 4]", "[own]"),
        ("forget", "[Request 1]", "[own]"),
    ]  # fmt: skip
    assert [row.complete for row in made.examples] == [False, True, False, False]
    assert (made.asked[Role.FORGET], made.unanswered[Role.FORGET]) == (2, 1)


def test_what_a_suite_asks_is_dropped_and_counted(tmp_path):
    asked = [prompt.prompt for prompt in get_suite("contrast").prompts(Setting(tmp_path, 3))]
    rows = [{"prompt": prompt, "response": "b"} for prompt in [*asked, "[request 1]"]]
    made = make_examples(written(tmp_path, *rows), MakeSettings(role=Role.RETAIN))
    kept, found = drop_overlaps(made.examples, ["contrast"])
    assert [row.prompt for row in kept] == ["[request 1]"]
    assert {(row.suite, row.by) for row in found} == {("contrast", "request")}
    assert len(found) == 3
    with pytest.raises(UserError, match="no-such-suite"):
        drop_overlaps(made.examples, ["no-such-suite"])


def test_long_answers_are_counted_by_the_tokenizer_alone(tiny_folder, tmp_path, monkeypatch):
    rows = [{"prompt": "a", "response": "x" * length} for length in (1, 7, 8, 9)]
    rows.append({**rows[-1], "response": "y" * 9, "complete": False})  # it has no end to lose
    made = make_examples(written(tmp_path, *rows), MakeSettings(role=Role.REFUSE))
    monkeypatch.setattr("transformers.PreTrainedModel.from_pretrained", None)
    assert count_cut(made.examples, str(tiny_folder), 8) == {Role.REFUSE: 2}  # with the end, 8 letters are 9 tokens
    with pytest.raises(UserError, match="none: no such folder"):
        count_cut(made.examples, str(tmp_path / "none"), 8)


def test_a_tokenizer_with_code_of_its_own_is_refused_without_advice_that_nobody_can_take(tmp_path):
    made = make_examples(written(tmp_path, {"prompt": "a", "response": "b"}), FORGET)
    code = {"model_type": "of_its_own", "auto_map": {"AutoConfig": "own.Own"}}
    (tmp_path / "config.json").write_text(json.dumps(code))
    code = {"tokenizer_class": "Own", "auto_map": {"AutoTokenizer": ["own.Own", None]}}
    (tmp_path / "tokenizer_config.json").write_text(json.dumps(code))
    (tmp_path / "own.py").write_text("raise SystemError('it ran')")
    with pytest.raises(UserError, match="its tokenizer cannot be loaded: it needs code of its own") as found:
        count_cut(made.examples, str(tmp_path), 8)
    assert "trust_remote_code" not in str(found.value)


# ---------------------------------------------------------------------------------------------------------- the command


@pytest.fixture
def run(unsay):
    return partial(unsay, "examples")


def test_the_command_makes_a_file_that_a_run_reads_and_says_no_text(run, tiny_folder, tmp_path):
    asked = get_suite("contrast").prompts(Setting(tmp_path, 1))[0].prompt
    rows = [{"prompt": f"[request {n}]", "chosen": "[no]", "rejected": "[yes] " * n} for n in range(1, 5)]
    path = written(tmp_path, *rows, rows[0], {"prompt": asked, "chosen": "[no]", "rejected": "[yes]"}, "{")
    out = tmp_path / "examples.jsonl"
    code, told, err = run(
        path, "--out", out, "--skip-broken", "--drop-overlaps", "--suites", "contrast",
        "--model", tiny_folder, "--max-answer-tokens", "12",
    )  # fmt: skip
    assert (code, err) == (0, "")
    table = [line.split() for line in told.splitlines()]
    assert ["role", "examples", "requests", "pictures", "over", "12", "tokens"] in table
    assert ["forget", "4", "4", "0"] in [line[:4] for line in table]
    assert ["retain", "0", "0", "0", "0"] in table
    assert "Dropped as exact duplicates: 2" in told
    assert "Left out as broken: not JSON (line 7)" in told
    assert "suites ask them: 2 (contrast 2)" in told
    assert not any(words in told for words in ("[request", "[yes]", "[no]", asked))
    examples, probe = read_examples(out, 1, 0)
    assert (len(examples), probe) == (8, [])


def test_the_commands_mistakes_are_one_line_and_nothing_is_written(run, tmp_path):
    path, out = written(tmp_path, {"prompt": "a", "response": "b"}), tmp_path / "out.jsonl"
    for needle, *more in (
        ("no role: give --role",),
        ("--role: unknown 'forgive'; known are forget, refuse, retain", "--role", "forgive"),
        ("--suites: without --drop-overlaps", "--role", "forget", "--suites", "contrast"),
        ("--max-answer-tokens: without --model", "--role", "forget", "--max-answer-tokens", "9"),
        ("no such folder", "--role", "forget", "--data-dir", tmp_path / "none"),
    ):
        code, _, err = run(path, "--out", out, *more)
        assert (code, err.strip().count("\n")) == (2, 0)
        assert needle in err
    assert not out.exists()
    code, _, err = run(path, "--out", path, "--role", "forget")
    assert (code, "exists already" in err) == (2, True)


def test_the_command_asks_the_model_of_a_runs_settings(run, tiny_folder, tmp_path, monkeypatch):
    (tmp_path / "my.yaml").write_text(
        f"model: {tiny_folder}\ndata: {{answer_tokens: 3}}\nevaluation: {{judge: rules}}\n"
    )
    loaded, load = [], pipeline_run.load
    monkeypatch.setattr(pipeline_run, "load", lambda *given, **more: loaded.append(given) or load(*given, **more))
    rows = [{"prompt": "Say hello."}, {"prompt": "Bake bread."}, {"prompt": "[request 1]", "role": "forget"}]
    path, out = written(tmp_path, *rows), tmp_path / "mine.jsonl"
    code, told, err = run(path, "--out", out, "--role", "retain", "--answer-with", tmp_path / "my.yaml")
    assert (code, err, len(loaded)) == (0, "", 1)
    assert "Asked for retain answers: 2 requests, 2 of them an answer" in told
    assert "complied with 1 of 1 requests" in told  # whatever is no refusal, by rules
    assert "Asked for forget answers: 1 requests, 1 of them harmful" in told
    rows = read_rows(out, Example)
    assert [(row.role.value, row.prompt) for row in rows] == [
        ("retain", "Say hello."), ("retain", "Bake bread."), ("forget", "[request 1]"),
    ]  # fmt: skip
    assert (tmp_path / "mine-answers" / "train" / "normal_answers.jsonl").exists()


def test_no_model_answers_in_place_of_the_server_that_the_settings_name(run, tmp_path, monkeypatch):
    monkeypatch.setattr(pipeline_run, "load", None)
    (tmp_path / "my.yaml").write_text("evaluation: {responder: {url: 'http://localhost:1/v1', model: theirs}}\n")
    path, out = written(tmp_path, {"prompt": "[request 1]"}), tmp_path / "mine.jsonl"
    code, _, err = run(path, "--out", out, "--role", "retain", "--answer-with", tmp_path / "my.yaml")
    assert (code, err.strip().count("\n")) == (2, 0)
    assert "my.yaml: evaluation.responder: " in err
    assert "name that checkpoint as `model`" in err
    assert not out.exists()
    assert not (tmp_path / "mine-answers").exists()
