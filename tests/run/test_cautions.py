"""Cautions beside the scores: few answers to unlearn, cut ones, whose they are, and what an adapter changes."""

import json

import pytest

from helpers import tiny
from tests.models.test_models import acting
from unsay import api
from unsay.config import parse_config
from unsay.data.recipe import OwnAnswer
from unsay.errors import UserError
from unsay.files import read_json, write_json
from unsay.methods import build_method
from unsay.models import load, save_adapter
from unsay.records import Phase, Role, SourceRow
from unsay.run import examples as run_examples
from unsay.run import training_rows
from unsay.run.cautions import training_cautions, training_note
from unsay.run.directory import Run
from unsay.run.examples import TrainingExamples, fits_recipe
from unsay.run.own_answers import OwnAnswers
from unsay.scoring import read_scores
from unsay.scoring.red_team import Attempt, RedTeam
from unsay.stages import Silent
from unsay.training.encode import answer_tokens, encode
from unsay.training.plan import methods_without, plan_training
from unsay.training.settings import BatchSettings, TrainSettings

pytestmark = pytest.mark.usefixtures("unmeasured_judge")

FOREIGN = "those of SmolLM2-135M-Instruct"


def opened(folder, text=""):
    """A run that has done nothing yet."""
    return Run.open(folder / "run", parse_config(f"model: org/some-7b\nevaluation: {{judge: rules}}\n{text}", "test"))


def examples_of(run, rows, answer_tokens=None):
    """Rows as the examples of a run, whose model complied with 3 of 5 requests."""
    own = None if run.config.data.examples is not None else red_team(3, 5, 1)
    return TrainingExamples(rows, [], answer_tokens or {}, own)


def red_team(gave_in, requests, failed):
    """What a model gave in to that was asked in words alone."""
    attempt = Attempt(way="words", asked=requests, gave_in=gave_in, failed=failed, newly_judged=requests - failed)
    return RedTeam(model="m", judge="rules", answer_tokens=40, requests=requests, attempts=(attempt,))


def planned(run, rows, chosen):
    return plan_training(build_method(run.config.method, run.config.method_settings), chosen, rows)


def noted(run, rows, chosen, answer_tokens=None):
    return training_note(run.config, examples_of(run, rows, answer_tokens), planned(run, rows, chosen))


def cautioned(run, rows, chosen, answer_tokens=None, steps=None):
    plan = planned(run, rows, chosen)
    return training_cautions(run.config, examples_of(run, rows, answer_tokens), plan, steps or chosen.steps)


def settings(steps=200, **more):
    return TrainSettings(steps=steps, batch=BatchSettings(forget=2, refuse=1, retain=1), **more)


# ------------------------------------------------------------------------------------------------------ too few of them


def test_a_model_that_complied_with_nothing_is_told_so_and_what_to_do(tmp_path, monkeypatch):
    run, none = opened(tmp_path), OwnAnswers([], red_team(0, 3, 0))
    monkeypatch.setattr(
        training_rows, "harmful_requests", lambda run, suites: [SourceRow(text="[request 1]", source="toy")]
    )
    monkeypatch.setattr(run_examples, "own_answers", lambda run, requests: none)
    with pytest.raises(UserError, match=r"no forget examples.* complied with 0 of 3 requests") as caught:
        run_examples.prepare_examples(run, {})
    said = str(caught.value)
    assert "data.examples" in said
    assert "refusal-sft, idk, prompt-decouple" in said
    assert not (run.folder / "train" / "examples.jsonl").exists()


def test_methods_that_need_no_harmful_answers_are_those_of_the_registry():
    assert methods_without(Role.FORGET) == ["refusal-sft", "idk", "prompt-decouple"]
    lacking = [row for row in tiny.examples(2) if row.role is not Role.FORGET]
    with pytest.raises(UserError, match=r"no forget examples, but .* role: add rows of role 'forget' .*refusal-sft"):
        plan_training(build_method("npo"), settings(), lacking)


def test_the_plan_says_how_often_a_row_is_read():
    plan = plan_training(build_method("textual-unlearning"), settings(6), tiny.examples(3))
    assert plan.most_reads() == {Role.FORGET: 4, Role.REFUSE: 2, Role.RETAIN: 2}
    pairs = [row.model_copy(update={"request": row.id.split("-")[1]}) for row in tiny.examples(4)]
    plan = plan_training(build_method("dpo"), settings(6), pairs)  # refusals are lent, and do not count
    assert plan.most_reads() == {Role.FORGET: 3, Role.RETAIN: 2}


def test_few_rows_that_are_read_many_times_are_said_in_red(tmp_path):
    run, few = opened(tmp_path), tiny.examples(3)
    assert "each forget example is read up to 134 times" in noted(run, few, settings())
    first = cautioned(run, few, settings())[0]
    assert first.severe
    assert "complied with 3 of 5 requests (1 were not judged)" in first.text
    assert "in 200 steps each was read up to 134 times" in first.text
    stopped = cautioned(run, few, settings(), steps=90)  # what was done, not planned
    assert "in 90 steps each was read up to 60 times" in stopped[0].text


def test_enough_rows_are_counted_without_alarm(tmp_path):
    found = cautioned(opened(tmp_path), tiny.examples(24), settings())
    assert [caution.severe for caution in found] == [False]
    assert found[0].text.startswith("Before training the model complied with 3 of 5 requests")
    quiet = opened(tmp_path / "other", "method: refusal-sft\ndata: {retain_answers: given}")
    assert [FOREIGN in caution.text for caution in cautioned(quiet, tiny.examples(24), settings())] == [True]


def test_own_rows_that_are_too_few_are_said_by_role(tmp_path):
    found = cautioned(opened(tmp_path, "data: {examples: x.jsonl}"), tiny.examples(3), settings())
    assert [caution.text[:40] for caution in found] == [
        "3 forget examples for 200 steps: each wa", "3 refuse examples for 200 steps: each wa",
        "3 retain examples for 200 steps: each wa",
    ]  # fmt: skip


def test_the_pocket_with_its_own_recipe_is_said_nothing_of(tmp_path):
    run = opened(tmp_path, "data: {answer_tokens: 16}")
    run.config = run.config.model_copy(update={"model": "pocket"})
    assert fits_recipe(run.config)  # nothing is measured that was chosen for it
    own = run.config.data.model_copy(update={"examples": tmp_path / "x.jsonl"})
    assert not fits_recipe(run.config.model_copy(update={"data": own}))
    assert cautioned(run, tiny.examples(24), settings(max_answer_tokens=2)) == []
    assert noted(run, tiny.examples(24), settings(max_answer_tokens=2)) == ""


# ---------------------------------------------------------------------------------------------------------- cut answers


def test_lengths_are_those_that_training_cuts(any_vlm):
    rows = [*tiny.examples(3), tiny.examples(1)[1].model_copy(update={"id": "unfinished", "complete": False})]
    lengths = answer_tokens(any_vlm, rows)
    assert lengths["refuse"][-1] == 0  # it has no end to lose
    for limit in (3, 9, 64):
        kept = [encode(any_vlm, row, max_prompt_tokens=256, max_answer_tokens=limit).answer_ids for row in rows[3:6]]
        ends = [ids[-len(any_vlm.answer_end) :] != any_vlm.answer_end for ids in kept]
        assert [length > limit for length in lengths["refuse"][:3]] == ends


def test_cut_refusals_are_counted_and_said_in_red(tmp_path):
    run = opened(tmp_path, "data: {examples: x.jsonl}\nmethod: refusal-sft")
    lengths = {"forget": [99] * 5, "refuse": [48] * 163 + [49] * 37, "retain": [10] * 99 + [90]}
    rows, chosen = tiny.examples(24), settings(20, max_answer_tokens=48)
    said = "37 of 200 refuse answers are cut at 48 tokens and teach no end"
    note = noted(run, rows, chosen, lengths)
    assert note == f"{said}; 1 of 100 retain answers are cut at 48 tokens and teach no end"
    found = cautioned(run, rows, chosen, lengths)
    assert found[0].text == f"{said} (train.max_answer_tokens)."
    assert [caution.severe for caution in found] == [True, False]
    longer = settings(20, max_answer_tokens=100)  # another limit, the same lengths
    assert cautioned(run, rows, longer, lengths) == []


# -------------------------------------------------------------------------------------------------------- whose answers


@pytest.mark.parametrize(
    ("text", "anchored", "taught"),
    [
        ("method: textual-unlearning", True, False),
        ("method: textual-unlearning\nmethod_settings: {retain_ce_weight: 0.5}", True, True),
        ("method: grad-diff", True, True),
        ("method: rmu", True, False),
        ("method: task-vector", False, False),
    ],
)
def test_packaged_answers_are_not_taken_for_the_models_own(tmp_path, text, anchored, taught):
    chosen = opened(tmp_path, f"{text}\ndata: {{retain_answers: given}}")
    found = cautioned(chosen, tiny.examples(24), settings(20))
    texts = [caution.text for caution in found if FOREIGN in caution.text]
    assert bool(texts) == anchored
    assert any("teaches it these answers" in text for text in texts) == taught
    for own in ("", "\ndata: {retain_answers: own}", "\ndata: {examples: x.jsonl, retain_answers: given}"):
        unsaid = cautioned(opened(tmp_path / f"{len(own)}", text + own), tiny.examples(24), settings(20))
        assert not any(FOREIGN in caution.text for caution in unsaid)


# ------------------------------------------------------------------------------------------------------------ precision


@pytest.mark.parametrize(
    ("dtype", "stored", "lost"),
    [
        ("float16", "float32", True), ("auto", "float16", True), ("auto", "bfloat16", False),
        ("bfloat16", "float16", False), ("float32", "float16", False),
    ],
)  # fmt: skip
def test_what_float16_loses_is_said_in_red(tiny_folder, tmp_path, dtype, stored, lost):
    written = read_json(tiny_folder / "config.json")
    write_json(tmp_path / "model" / "config.json", {**written, "dtype": stored})
    run = opened(tmp_path, f"data: {{examples: x.jsonl}}\nmodel_settings: {{dtype: {dtype}}}")
    run.config = run.config.model_copy(update={"model": str(tmp_path / "model")})
    found = cautioned(run, tiny.examples(24), settings(20))
    assert [caution.severe for caution in found] == [True] * lost
    assert ("in float16 gradients below 6e-08 become 0" in noted(run, tiny.examples(24), settings(20))) == lost
    for caution in found:
        assert "gradients below 6e-08 became 0" in caution.text
        assert caution.text.endswith("Set model_settings.dtype to bfloat16, or to float32.")
        assert ("auto takes" in caution.text) == (dtype == "auto")


# ---------------------------------------------------------------------------------------------------------- a whole run


class Listening(Silent):
    def __init__(self):
        self.said = []

    def finish(self, note):
        self.said.append(note)


def test_a_run_says_it_in_its_stage_and_beside_its_scores(tiny_folder, examples, tmp_path):
    config = parse_config(
        f"model: {tiny_folder}\ndata: {{examples: {examples}, recipe: {{probe: 1}}}}\n"
        "train: {steps: 2, batch: {forget: 2, refuse: 2, retain: 2}, max_answer_tokens: 4}\n"
        "evaluation: {judge: rules, suites: [contrast], limit: 2, generation: {max_new_tokens: 2}}\n",
        "test",
    )
    heard = Listening()
    scores = api.unlearn(config, tmp_path / "run", progress=heard)
    said = "refuse answers are cut at 4 tokens and teach no end"
    assert any(said in note for note in heard.said)
    assert [caution.severe for caution in scores.warnings if said in caution.text] == [True]
    assert said in (tmp_path / "run" / "report.html").read_text()


def test_a_model_answers_normal_requests_once_and_whole(tiny_folder, tmp_path):
    from unsay.run.own_answers import normal_answers

    config = parse_config(f"model: {tiny_folder}\ndata: {{answer_tokens: 3}}\nevaluation: {{judge: rules}}\n", "test")
    rows = [SourceRow(text=prompt, source="toy") for prompt in tiny.PROMPTS[:3]]
    run = Run.open(tmp_path / "run", config)
    found = normal_answers(run, rows)
    assert {type(row) for row in found} == {OwnAnswer}
    assert {row.request for row in found} <= set(tiny.PROMPTS[:3])
    assert normal_answers(run, rows) == found
    assert run.stages.records[-1][1]


# ------------------------------------------------------------------------------------------------------------- adapters


def test_a_model_that_is_gone_when_all_is_answered_costs_no_evaluation(tiny_folder, tmp_path, monkeypatch):
    """Its cache may have been cleared; and a comparison says it, too."""

    def gone(model):
        raise UserError(f"{model}: its configuration cannot be read")

    monkeypatch.setattr("unsay.run.cautions.load_skeleton", gone)
    questions = tmp_path / "mine.jsonl"
    questions.write_text(json.dumps({"id": "1", "prompt": "[words]", "image": None, "kind": "attack"}) + "\n")
    settings = parse_config(
        f"model: {tiny_folder}\nevaluation: {{judge: rules, suites: [], generation: {{max_new_tokens: 4}}}}\n", "test"
    )
    save_adapter(acting(load(str(tiny_folder))), tmp_path / "lora")
    api.evaluate(settings, tmp_path / "run", adapter=tmp_path / "lora", suite_file=questions)
    warnings = read_scores(tmp_path / "run" / "scores.json").warnings
    (said,) = [row for row in warnings if row.phase is not None]
    assert said.text.startswith("It is not known whether the adapter changes the vision side of the model, too")
    assert (said.severe, said.phase) == (False, Phase.AFTER)
    assert str(tiny_folder) not in said.text
    both = api.compare(f"{tmp_path / 'run'}:before", tmp_path / "run", tmp_path / "out")
    assert [row.text.endswith(f"lora: {said.text}") for row in both.warnings if row.phase is not None] == [True]
