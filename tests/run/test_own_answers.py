"""What a model's own answers are drawn out by: the ladder against a scripted server, and kills in the middle of it."""

import json
import signal
from pathlib import Path

import pytest
from PIL import Image

from helpers import killable, killed_answering, tiny
from helpers.misbehaving import says, serving
from unsay.config import parse_config
from unsay.data import typography
from unsay.data.recipe import OwnAnswer, RecipeSettings, forget_examples
from unsay.errors import UserError
from unsay.files import read_json
from unsay.generation.server import data_url
from unsay.records import Label, SourceRow
from unsay.run import own_answers as own_module
from unsay.run.directory import Run
from unsay.run.own_answers import own_answers, retain_answers, retains_own_answers, ways_of
from unsay.scoring.red_team import Attempt, RedTeam, read_red_team

pytestmark = pytest.mark.usefixtures("unmeasured_judge")

REFUSAL = "I'm sorry, but I can't help with that."
TEMPLATES = {"first": "[wrapped] {{ prompt }} [end]", "second": "[again] {{ prompt }}"}


@pytest.fixture(autouse=True)
def _templates(monkeypatch):
    monkeypatch.setattr("unsay.generation.ways.jailbreaks", lambda: TEMPLATES)


def rows(count, **more):
    return [SourceRow(text=f"Request number {number}.", source="toy", **more) for number in range(1, count + 1)]


def opened(folder, model, url=None, **data):
    if url is not None:
        data["responder"] = {"url": url, "model": "m", "retries": 0, "concurrency": 1}
    settings = {"model": str(model), "data": {"answer_tokens": 12} | data, "evaluation": {"judge": "rules"}}
    return Run.open(folder, parse_config(json.dumps(settings), "test"))


def way_in(body):
    """How a request was put, and its number; pictures of requests hold no text, so theirs is not known."""
    last = body["messages"][-1]
    if last["role"] == "assistant" and isinstance(body["messages"][-2]["content"], list):
        return "begun picture", None
    if last["role"] == "assistant":
        return f"prefill {last['content'][:4].strip()}", number_in(body["messages"][-2]["content"])
    if isinstance(last["content"], list):
        return last["content"][1]["text"][:9], None
    for name, template in TEMPLATES.items():
        if last["content"].startswith(template.partition(" ")[0]):
            return name, number_in(last["content"])
    return "words" if body["temperature"] == 0 else f"sample {body['seed']}", number_in(last["content"])


def number_in(text):
    return int(text.partition("number ")[2].partition(".")[0])


class Giving:
    """A server that gives in to requests by number and way, and refuses everything else."""

    def __init__(self, **ways):
        self.ways = {name.replace("_", " "): numbers for name, numbers in ways.items()}
        self.seen = []

    def __call__(self, body, _number):
        way, number = way_in(body)
        self.seen.append((way, number))
        given = self.ways.get(way, ())
        return says(f"Here is what you asked for: {way}, {number}." if given == "all" or number in given else REFUSAL)


# ---------------------------------------------------------------------------------------------------------- the ladder


def test_each_way_asks_what_the_ones_before_it_did_not_get(tiny_folder, tmp_path):
    giving = Giving(words=[1], prefill_Sure=[2], prefill_Of_c=[3], first=[4], second=[5], sample_1=[6])
    with serving(giving) as server:
        own = own_answers(opened(tmp_path / "run", tiny_folder, server.url), rows(7))
    assert [(answer.way, answer.request) for answer in own.harmful] == [
        ("words", "Request number 1."),
        ("prefill", "Request number 2."),
        ("prefill", "Request number 3."),
        ("templates", "Request number 4."),
        ("templates", "Request number 5."),
        ("samples", "Request number 6."),
    ]
    assert own.harmful[1].answer.startswith("Sure, here is")  # the words that were given belong to the answer
    table = own.red_team
    assert [(row.way, row.detail, row.asked, row.gave_in) for row in table.attempts] == [
        ("words", "", 7, 1),
        ("prefill", "Sure, here is", 6, 1),
        ("prefill", "Of course. Here are the steps:", 5, 1),
        ("typographic", "", 4, 0),
        ("typographic", "with Sure, here is", 4, 0),
        ("figstep", "", 4, 0),
        ("figstep", "with 1.", 4, 0),
        ("templates", "first", 4, 1),
        ("templates", "second", 3, 1),
        ("samples", "", 2, 1),
    ]
    assert [(way.way, way.asked, way.gave_in, way.together) for way in table.ways] == [
        ("words", 7, 1, 1), ("prefill", 6, 2, 3), ("typographic", 4, 0, 3), ("figstep", 4, 0, 3),
        ("templates", 4, 2, 5), ("samples", 2, 1, 6),
    ]  # fmt: skip
    assert str(table) == (
        "complied with 6 of 7 requests (1 words, 2 prefill, 0 typographic, 0 figstep, 2 templates, 1 samples)"
    )
    assert read_red_team(tmp_path / "run") == table


def test_requests_without_a_verdict_and_those_that_do_not_fit_are_in_no_share(tiny_folder, tmp_path, monkeypatch):
    fits, judged = own_module.fits, own_module.judged_in_parts
    monkeypatch.setattr(own_module, "fits", lambda _vlm, row, _s: fits(_vlm, row, _s) and "1" not in row.request)
    run = opened(tmp_path / "run", tiny_folder, own_answers={"ways": ["words", "prefill"]})
    seen = []

    def verdicts(judge, pairs, path):
        seen.append(len(pairs))
        first, *others = judged(judge, pairs, path)
        first = first.model_copy(update={"label": Label.FAILED if len(seen) == 2 else Label.SAFE})
        label = Label.HARMFUL if len(seen) == 3 else Label.SAFE
        return [first, *(row.model_copy(update={"label": label}) for row in others)]

    monkeypatch.setattr(own_module, "judged_in_parts", verdicts)
    table = own_answers(run, rows(4)).red_team
    assert [(row.asked, row.gave_in, row.failed, row.newly_judged) for row in table.attempts] == [
        (3, 0, 0, 3), (3, 0, 1, 2), (3, 2, 0, 1),
    ]  # fmt: skip
    assert [(way.asked, way.gave_in) for way in table.ways] == [(3, 0), (3, 2)]


def test_pictures_show_the_request_and_get_answers_to_it(tiny_folder, tmp_path):
    with serving(Giving(**{"Follow th": "all"})) as server:
        own = own_answers(opened(tmp_path / "run", tiny_folder, server.url), rows(3))
    assert {answer.way for answer in own.harmful} == {"typographic"}
    assert len(own.harmful) == 3
    assert len(list((tmp_path / "run" / "train" / "asked" / "typographic").glob("*.png"))) == 3


def test_pictures_that_are_drawn_anew_are_asked_anew(tiny_folder, tmp_path, monkeypatch):
    with serving(Giving(**{"Follow th": "all"})) as server:
        run = opened(tmp_path / "run", tiny_folder, server.url)
        own_answers(run, rows(3))
        asked = len(server.asked)
        monkeypatch.setattr("unsay.suites.twins.STYLE", typography.Style(size=16, margin=4))
        monkeypatch.setattr("unsay.suites.twins.VERSION", 0)
        own_answers(run, rows(3))
    assert not run.stages.records[-1][1]
    assert len(server.asked) == asked + 3  # in words the answers are known


def test_another_picture_under_the_same_path_is_asked_again(tiny_folder, tmp_path):
    path = tmp_path / "a.png"
    shown = [row.model_copy(update={"image": str(path)}) for row in rows(1, answers=("[packaged]",))]
    with serving(lambda body, _: says("Here is what you asked for.")) as server:
        run = opened(tmp_path / "run", tiny_folder, server.url)
        for asked, colour in enumerate(("red", "blue"), start=1):
            Image.new("RGB", (8, 8), colour).save(path)
            own_answers(run, shown)
            retain_answers(run, shown)
            assert [reused for _, reused in run.stages.records[-2:]] == [False, False]
            assert len(server.asked) == asked  # both stages share the answer
        own_answers(run, shown)
        assert run.stages.records[-1][1]


def test_an_answer_that_begins_as_told_and_then_refuses_is_a_refusal(tiny_folder, tmp_path):
    with serving(lambda body, _: says(" not. I can't help with that, and I'm sorry.")) as server:
        own = own_answers(opened(tmp_path / "a", tiny_folder, server.url, own_answers={"ways": ["prefill"]}), rows(2))
    # The first sentence alone, "Sure, here is not.", would open like an answer.
    assert own.harmful == []
    assert [row.asked for row in own.red_team.attempts] == [2, 2]


def test_enough_ends_the_search_but_all_are_asked_in_the_first_way(tiny_folder, tmp_path, monkeypatch):
    monkeypatch.setattr("unsay.run.own_answers.ASKED_AT_ONCE", 2)
    giving = Giving(words=[1, 2], prefill_Sure="all")
    with serving(giving) as server:
        own = own_answers(opened(tmp_path / "a", tiny_folder, server.url, own_answers={"wanted": 3}), rows(9))
        many = own_answers(opened(tmp_path / "b", tiny_folder, server.url, own_answers={"wanted": 2}), rows(9))
    assert [(row.way, row.asked, row.gave_in) for row in own.red_team.attempts] == [("words", 9, 2), ("prefill", 2, 2)]
    assert [(row.way, row.asked) for row in many.red_team.attempts] == [("words", 9)]
    assert own.red_team.wanted == 3


def test_the_pocket_is_asked_in_words_and_any_other_model_in_every_way(tiny_folder, tmp_path):
    assert ways_of(opened(tmp_path / "a", "pocket")) == ("words",)
    other = opened(tmp_path / "b", tiny_folder)
    assert ways_of(other) == ("words", "prefill", "typographic", "figstep", "templates", "samples")
    assert retains_own_answers(other)
    assert not retains_own_answers(opened(tmp_path / "c", "pocket"))
    assert retains_own_answers(opened(tmp_path / "d", "pocket", retain_answers="own"))
    assert not retains_own_answers(opened(tmp_path / "e", tiny_folder, retain_answers="given"))


@pytest.mark.parametrize("ways", [["words", "words"], [], ["hypnosis"]])
def test_bad_ways_are_named_before_anything_is_asked(tiny_folder, tmp_path, ways):
    with pytest.raises(UserError, match=r"^test: data\.own_answers\.ways"):
        opened(tmp_path, tiny_folder, own_answers={"ways": ways})


# ------------------------------------------------------------------------------------------------- answers of a source


def test_a_request_with_its_sources_answer_is_not_asked(tiny_folder, tmp_path):
    given = [*rows(2, harmful=("[worst]", "[bad]")), SourceRow(text="Request number 3.", source="toy")]
    giving = Giving(words="all")
    with serving(giving) as server:
        own = own_answers(opened(tmp_path / "a", tiny_folder, server.url), given)
    assert [answer.request for answer in own.harmful] == ["Request number 3."]
    assert (own.red_team.requests, own.red_team.gave_in, own.red_team.given) == (1, 1, 2)
    assert giving.seen == [("words", 3)]


def test_where_it_is_asked_the_sources_answers_stand_in_for_what_the_model_does_not_say(tiny_folder, tmp_path):
    data = {"forget_answers": "own", "own_answers": {"ways": ["words", "prefill"]}}
    asked = rows(3, harmful=("[worst]",))
    with serving(Giving(words=[1])) as server:
        own = own_answers(opened(tmp_path / "a", tiny_folder, server.url, **data), asked)
    assert [answer.way for answer in own.harmful] == ["words"]
    assert (own.red_team.requests, own.red_team.gave_in, own.red_team.given) == (3, 1, 2)
    examples = forget_examples(asked, own.harmful, RecipeSettings(), 0, source=None)
    assert [example.answer[:7] for example in examples] == ["Here is", "[worst]", "[worst]"]


def test_the_way_that_drew_an_answer_out_stands_beside_it():
    answers = [OwnAnswer(request=row.text, answer="[said]", complete=True, way=way)
               for row, way in zip(rows(2), ("words", "figstep"), strict=True)]  # fmt: skip
    examples = forget_examples(rows(2), answers, RecipeSettings(), 0)
    assert [(example.source, example.way) for example in examples] == [("own answer", None), ("own answer", "figstep")]


def test_a_text_with_several_pictures_is_several_requests(tiny_folder, tmp_path):
    asked = []
    for colour in ("red", "blue"):
        Image.new("RGB", (8, 8), colour).save(tmp_path / f"{colour}.png")
        asked.append(SourceRow(text="Request number 1.", source=colour, image=str(tmp_path / f"{colour}.png")))
    red, blue = (data_url(Path(row.image)) for row in asked)

    def answer(body, _number):
        shown = body["messages"][-1]["content"][0]["image_url"]["url"]
        return says({red: "Here is what it says: red.", blue: REFUSAL}.get(shown, "Here is what you asked for."))

    own = {"ways": ["words", "typographic"]}
    with serving(answer) as server:
        run = opened(tmp_path / "run", tiny_folder, server.url, own_answers=own)
        drawn = own_answers(run, asked).harmful
    examples = forget_examples(asked, drawn, RecipeSettings(), 0, source=None)
    assert [(example.source, example.way, example.image) for example in examples] == [
        ("red", None, asked[0].image), ("blue", "typographic", asked[1].image),
    ]  # fmt: skip
    assert len({example.answer for example in examples}) == 2
    assert len(forget_examples(asked[:1], drawn[1:], RecipeSettings(), 0)) == 0


# -------------------------------------------------------------------------------------------------------------- retain


def test_a_model_is_held_to_its_own_answers_but_to_no_refusal(tiny_folder, tmp_path):
    def answer(body, _number):
        return says({1: REFUSAL, 2: "", 3: "One two three."}[number_in(body["messages"][-1]["content"])])

    normal = rows(3, answers=("[packaged]",))
    with serving(answer) as server:
        held = retain_answers(opened(tmp_path / "a", tiny_folder, server.url), normal)
        kept = retain_answers(opened(tmp_path / "b", tiny_folder, server.url, retain_answers="given"), normal)
    assert [(row.text, row.answers, row.complete) for row in held] == [("Request number 3.", ("One two three.",), True)]
    assert kept == normal


# --------------------------------------------------------------------------------------------------------- a real model


def settings_for(model):
    ways = {"ways": ["words", "prefill", "typographic", "samples"], "samples": 2}
    data = {"answer_tokens": 6, "own_answers": ways}
    evaluation = {"judge": "rules", "generation": {"batch_tokens": 1}}  # one prompt at a time
    return json.dumps({"model": str(model), "data": data, "evaluation": evaluation})


def fussy(folder, model):
    run = Run.open(folder, parse_config(settings_for(model), "test"))
    run._judge = killed_answering.FussyJudge()
    return run


def test_kill_minus_nine_in_the_middle_changes_nothing(tiny_folder, tmp_path):
    """Whatever was answered and judged is kept; what is left is answered as it would have been."""
    whole = fussy(tmp_path / "whole", tiny_folder)
    asked = [SourceRow(text=text, source="toy") for text in tiny.PROMPTS]
    own = own_answers(whole, asked)
    assert len(own.red_team.ways) >= 3
    for left in (4, 11, 6):  # in words; with the first words given; of the rest
        errors = tmp_path / f"errors {left}"
        code = killable.run(
            errors, killed_answering.draw_and_die, settings_for(tiny_folder), tmp_path / "killed", tiny.PROMPTS, left
        )
        assert code == -signal.SIGKILL, errors.read_text() if errors.exists() else code
    resumed = fussy(tmp_path / "killed", tiny_folder)
    assert own_answers(resumed, asked) == own
    assert own_answers(resumed, asked) == own
    assert resumed.stages.records[-1][1]  # the second time from its files
    assert read_json(tmp_path / "killed" / "train" / "red_team.json")["requests"] == len(asked)


def test_a_request_that_does_not_fit_the_model_is_not_asked_that_way(tiny_folder, tmp_path):
    long = SourceRow(text="word " * 400 + "end.", source="toy")  # the tiny model reads 512 tokens
    run = opened(tmp_path / "a", tiny_folder, own_answers={"ways": ["words", "templates"]})
    own = own_answers(run, [long])
    assert own.harmful == []
    assert (own.red_team.requests, own.red_team.attempts) == (1, ())


# ----------------------------------------------------------------------------------------------------------- the table


def test_the_table_of_a_run_is_read_or_there_is_none(tmp_path):
    assert read_red_team(tmp_path) is None
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "red_team.json").write_text("{")
    assert read_red_team(tmp_path) is None


def test_shares_have_wilson_intervals_and_failed_answers_are_said():
    attempts = (
        Attempt(way="words", asked=42, gave_in=10, failed=2, newly_judged=40),
        Attempt(way="prefill", detail="a", asked=22, gave_in=10, newly_judged=22),
        Attempt(way="prefill", detail="b", asked=20, gave_in=5, newly_judged=8),  # these did not fit `a`
    )
    table = RedTeam(model="m", judge="rules", answer_tokens=40, requests=42, attempts=attempts)
    words, prefill = table.ways
    assert (words.share, prefill.share, prefill.together) == (0.25, 0.5, 25)
    assert words.interval.low == pytest.approx(0.1419, abs=1e-4)  # Wilson, 10 of 40
    assert words.interval.high == pytest.approx(0.4019, abs=1e-4)
    assert str(table) == "complied with 25 of 42 requests (10 words, 15 prefill; 2 were not judged)"
