"""A run on named sources: from their published files to the adapter, its card and its second start."""

import json
from collections import Counter

import pytest

from helpers import published_sources, tiny
from unsay import api
from unsay.config import parse_config
from unsay.data.recipe import OwnAnswer, RecipeSettings, forget_examples
from unsay.data.sources import SOURCES
from unsay.data.typography import missing_letter
from unsay.errors import UserError
from unsay.files import read_json, read_rows
from unsay.methods import build_method
from unsay.records import Example, Role, SourceRow
from unsay.run import export, training_rows
from unsay.run.directory import Run
from unsay.stages import Silent
from unsay.training.plan import steps_of
from unsay.training.settings import BatchSettings, TrainSettings

pytestmark = pytest.mark.usefixtures("unmeasured_judge")

DATA = """\
data:
  forget: [pku_saferlhf_pairs, {source: safeunlearning, rows: 1}]
  retain: [{source: llm_lat, weight: 3}, {source: truthfulqa, split: published, weight: 1}]
  retain_answers: given
  recipe: {probe: 1, wrapped: 0, lists: 0, retain_wrapped: 0, retain_lists: 0}
"""


class Said(Silent):
    """Keeps what a run says."""

    def __init__(self):
        self.lines = []

    def start(self, title, total):
        self.lines.append(title)

    def finish(self, note):
        self.lines.append(note)


@pytest.fixture
def data(tmp_path, monkeypatch):
    folder = tmp_path / "data"
    monkeypatch.setenv("UNSAY_DATA_DIR", str(folder))
    monkeypatch.setenv("UNSAY_CACHE_DIR", str(tmp_path / "cache"))
    for make in ("pku_saferlhf_pairs", "safeunlearning", "llm_lat", "truthfulqa", "vlguard"):
        getattr(published_sources, make)(folder)
    return folder


def settings(folder, data=DATA, **train):
    values = {"steps": 2, "batch": {"forget": 2, "refuse": 2, "retain": 2}, **train}
    return parse_config(
        f"model: {folder}\n{data}train: {json.dumps(values)}\n"
        "evaluation: {judge: rules, suites: [shapes], limit: 2, generation: {max_new_tokens: 2}}\n",
        "test",
    )


def examples_of(folder):
    rows = read_rows(folder / "train" / "examples.jsonl", Example)
    return {role: [row for row in rows if row.role is role] for role in Role}


def test_from_published_files_to_an_adapter_and_its_card(data, tiny_folder, tmp_path):
    said, out = Said(), tmp_path / "run"
    api.unlearn(settings(tiny_folder), out, progress=said)
    made = examples_of(out)
    # Every harmful answer of a request is forgotten, its safe answers are the refusals, and none is the model's own.
    assert {(row.prompt, row.answer) for row in made[Role.FORGET]} == {
        ("[request 1]", "[unsafe 0]"), ("[request 2]", "[unsafe 1]"), ("[request 1]", "[unsafe 2]"),
        ("[request]", "[harm 1]"), ("[request]", "[harm 2]"),
    }  # fmt: skip
    assert {row.answer for row in made[Role.REFUSE]} == {"[safe 0]", "[safe 1]", "[safe 2]", "[no]"}
    assert {row.source for row in made[Role.FORGET]} == {"pku_saferlhf_pairs", "safeunlearning"}
    assert {row.source for row in made[Role.RETAIN]} <= {"llm_lat", "truthfulqa"}
    assert (out / "train" / "own_answers.jsonl").read_text() == ""
    assert read_json(out / "train" / "sources.json")["rows"] == {
        "forget": {"pku_saferlhf_pairs": 2, "safeunlearning": 1}, "retain": {"llm_lat": 3, "truthfulqa": 1},
    }  # fmt: skip
    assert not any("SmolLM2" in line for line in said.lines)  # nothing of the packaged answers was read
    # Licences are said once, and stand on the card.
    terms = [line for line in said.lines if "CC BY-NC 4.0" in line]
    assert len(terms) == 1
    assert "PKU-SafeRLHF, realignment pairs (pku_saferlhf_pairs): CC BY-NC 4.0, no commercial use" in terms[0]
    assert "LLM-LAT harmful and benign (llm_lat): none stated, no redistribution" in terms[0]
    export.export(out, tmp_path / "exported")
    card = (tmp_path / "exported" / "README.md").read_text()
    assert "To forget: PKU-SafeRLHF, realignment pairs (CC BY-NC 4.0, github.com/xinykou/safety_realignment" in card
    assert "**These licences forbid some uses:** PKU-SafeRLHF, realignment pairs" in card
    assert "AdvBench" not in card.split("## Data")[1].split("##")[0]


def test_a_second_start_reuses_the_examples_and_a_changed_file_does_not(data, tiny_folder, tmp_path):
    out = tmp_path / "run"
    api.unlearn(settings(tiny_folder), out)
    before = (out / "train" / "examples.jsonl").stat().st_mtime_ns
    api.unlearn(settings(tiny_folder), out)
    assert (out / "train" / "examples.jsonl").stat().st_mtime_ns == before
    path = data / "pku_saferlhf_pairs/pku_seferlhf_realign_dpo_5k.json"
    path.write_text(path.read_text().replace("[unsafe 2]", "[unsafe 3]"))
    api.unlearn(settings(tiny_folder), out)
    assert "[unsafe 3]" in {row.answer for row in examples_of(out)[Role.FORGET]}


def test_requests_without_an_answer_are_asked_and_the_others_are_not(data, tiny_folder, tmp_path):
    named = DATA.replace("{source: safeunlearning, rows: 1}", "{source: vlguard, split: unsafe_words_alone}")
    out = tmp_path / "run"
    api.unlearn(settings(tiny_folder, named), out)
    asked = (out / "train" / "own_answers.jsonl").read_text()
    assert asked.count("\n") == 1
    assert "[harm]" in asked
    made = examples_of(out)
    assert {row.answer for row in made[Role.REFUSE] if row.source == "vlguard"} == {"[no]"}
    assert {row.source for row in made[Role.FORGET]} == {"pku_saferlhf_pairs", "vlguard"}  # `rules` calls all harmful


def test_a_picture_of_a_source_is_trained_on_as_it_is(data, tiny_folder, tmp_path):
    named = "data:\n  forget: [pku_saferlhf_pairs]\n  refuse: [{source: vlguard, split: unsafe_pictures}]\n" + (
        "  retain: [{source: vlguard, split: safe}, {source: llm_lat}]\n  retain_answers: given\n  recipe: {probe: 1}\n"
    )
    out = tmp_path / "run"
    api.unlearn(settings(tiny_folder, named), out)
    made = examples_of(out)
    (refused,) = made[Role.REFUSE]
    assert (refused.prompt, refused.answer) == ("[see it]", "[no]")
    assert refused.image == str(data / "vlguard/train/bad_ads/a.png")
    assert any(
        row.get("image_tokens") for row in map(json.loads, (out / "train/metrics.jsonl").read_text().splitlines())
    )


def test_what_the_suites_ask_is_dropped_counted_and_said(data, tiny_folder, tmp_path):
    questions = tmp_path / "mine.jsonl"
    questions.write_text(json.dumps({"id": "1", "prompt": "[Request 2]!", "kind": "attack"}) + "\n")
    said, out = Said(), tmp_path / "run"
    named = "data: {forget: [pku_saferlhf_pairs], retain: [llm_lat], retain_answers: given, recipe: {probe: 1}}\n"
    api.unlearn(settings(tiny_folder, named), out, suite_file=questions, progress=said)
    assert any("dropped: pku_saferlhf_pairs 1 (mine-attack 1)" in line for line in said.lines)
    assert read_json(out / "train" / "sources.json")["dropped"] == {
        "forget": {"pku_saferlhf_pairs": {"mine-attack": 1}}
    }
    assert "[request 2]" not in {row.request for row in examples_of(out)[Role.FORGET]}


def test_a_source_that_is_asked_entirely_ends_the_run_before_any_answer(data, tiny_folder, tmp_path):
    config = settings(tiny_folder, "data: {forget: [pku_saferlhf_pairs]}\n")
    evaluation = config.evaluation.model_copy(update={"suites": ("pku-saferlhf",)})
    with pytest.raises(UserError, match=r"data\.forget: pku_saferlhf_pairs: all of its 2 requests, .*\(pku-saferlhf\)"):
        api.unlearn(config.model_copy(update={"evaluation": evaluation}), tmp_path / "run")
    assert not (tmp_path / "run" / "responses").exists()


def test_weights_decide_the_rows_of_a_step(data, tiny_folder, tmp_path):
    twice = "data:\n  retain: [{source: llm_lat, weight: 1}]\n  forget: [pku_saferlhf_pairs]\n"
    with pytest.raises(UserError, match=r"train\.retain_mix: data\.retain has weights: leave one of the two out"):
        api.unlearn(settings(tiny_folder, twice, retain_mix={"llm_lat": 1}), tmp_path / "run")
    rows = [
        tiny.examples(1)[0].model_copy(update={"id": f"{source}{n}", "source": source, "role": role})
        for role in Role
        for source in ("heavy", "light")
        for n in range(4)
    ]
    rows = [row.model_copy(update={"id": f"{row.role}-{row.id}"}) for row in rows]
    train = TrainSettings(steps=200, batch=BatchSettings(forget=2, refuse=2, retain=2))
    mixes = {Role.FORGET: {"heavy": 3, "light": 1}}
    steps = steps_of(rows, build_method("textual-unlearning").needs, train, mixes)
    share = {
        role: sum(row.source == "heavy" for step in steps for row in step if row.role is role) / 400
        for role in (Role.FORGET, Role.REFUSE)
    }
    assert share[Role.FORGET] == pytest.approx(0.75, abs=0.07)
    assert share[Role.REFUSE] == pytest.approx(0.5, abs=0.01)
    with pytest.raises(UserError, match=r"data\.forget: no forget examples from 'none'; known are heavy, light"):
        steps_of(rows, build_method("textual-unlearning").needs, train, {Role.FORGET: {"none": 1}})


def test_answers_that_another_way_drew_out_are_drawn_by_the_weight_of_their_source():
    def own(request, way):
        return OwnAnswer(request=request, answer=f"[answer to {request}]", complete=True, way=way)

    ways = {"heavy": ["words", "prefill", "templates", "samples"], "light": ["figstep", "prefill"]}
    requests = {f"[{source} {way}]": (source, way) for source, found in ways.items() for way in found}
    rows = [SourceRow(text=request, source=source) for request, (source, _) in requests.items()]
    answers = [own(request, way) for request, (_, way) in requests.items()]
    forget = forget_examples(rows, answers, RecipeSettings(), 0, source=None)
    assert {(row.source, row.way) for row in forget if row.request == "[light figstep]"} == {("light", "figstep")}
    others = [row for row in tiny.examples(2) if row.role is not Role.FORGET]
    train = TrainSettings(steps=100, batch=BatchSettings(forget=2, refuse=2, retain=2))
    needs = build_method("textual-unlearning").needs
    steps = steps_of([*forget, *others], needs, train, {Role.FORGET: {"heavy": 1, "light": 3}})
    drawn = Counter(row.request for step in steps for row in step if row.role is Role.FORGET)
    assert drawn.keys() == requests.keys()
    light = sum(count for request, count in drawn.items() if requests[request][0] == "light")
    assert light / drawn.total() == pytest.approx(0.75, abs=0.1)
    with pytest.raises(UserError, match=r"no forget examples from 'none'; known are heavy, light$"):
        steps_of([*forget, *others], needs, train, {Role.FORGET: {"none": 1}})


@pytest.mark.pocket
def test_without_names_the_requests_are_the_built_in_ones(tiny_folder, tmp_path):
    run = Run.open(tmp_path / "run", parse_config(f"model: {tiny_folder}", "test"))
    rows = training_rows.training_rows(run, {})
    assert rows.forget == rows.refuse == training_rows.harmful_requests(run, {})
    assert rows.retain is None
    named = [name for name in SOURCES if name in {row.source for row in rows.forget}]
    listed = parse_config(f"model: {tiny_folder}\ndata: {{forget: {json.dumps(named)}}}", "test")
    again = training_rows.training_rows(Run.open(tmp_path / "named", listed), {})
    assert {row.text for row in again.forget} == {row.text for row in rows.forget}
    assert {row.text: row.subject for row in again.forget} == {row.text: row.subject for row in rows.forget}


def test_a_request_that_does_not_stand_in_readable_letters_is_left_out_of_pictures(data, tiny_folder, tmp_path):
    path = data / "pku_saferlhf_pairs/pku_seferlhf_realign_dpo_5k.json"
    pairs = json.loads(path.read_text())
    for words in ("[long] " + "x " * 80, "[in letters of no face] 学游泳"):
        pairs.append({"prompt": words, "response": ["[safe]", "[unsafe]"]})
    path.write_text(json.dumps(pairs))
    config = settings(tiny_folder, "data: {forget: [pku_saferlhf_pairs], modality: typographic}\n")
    rows = training_rows.training_rows(Run.open(tmp_path / "run", config), {})
    assert len(rows.forget) == 2
    assert rows.dropped[Role.FORGET] == {"pku_saferlhf_pairs": {training_rows.TOO_LONG: 1, training_rows.NO_LETTERS: 1}}
    built_in = settings(tiny_folder, "data: {modality: typographic}\n")
    drawn = training_rows.harmful_requests(Run.open(tmp_path / "drawn", built_in), {})
    assert all(missing_letter(row.text) is None for row in drawn)
    assert len(drawn) == len(training_rows.harmful_pool()) - 1


def test_a_method_that_forgets_nothing_asks_nobody(data, tiny_folder, tmp_path):
    named = (
        "data: {forget: [{source: vlguard, split: unsafe_words_alone}], retain: [llm_lat], retain_answers: given, "
        "recipe: {probe: 1}}\n"
    )
    out = tmp_path / "run"
    api.unlearn(settings(tiny_folder, f"method: refusal-sft\n{named}"), out)
    assert not (out / "train" / "own_answers.jsonl").exists()
    assert {row.answer for row in examples_of(out)[Role.REFUSE]} == {"[no]"}
