"""Options that make training withstand attacks, through whole runs: with several methods, together, reused, refused."""

import json
from collections import Counter

import pytest

from helpers import tiny
from tests.run.test_cautions import red_team
from unsay import api
from unsay.config import parse_config
from unsay.data.recipe import OwnAnswer
from unsay.errors import UserError
from unsay.files import read_json, read_rows, write_rows
from unsay.models.loading import NAMED
from unsay.records import Example, Modality, Role, SourceRow
from unsay.run import examples as run_examples
from unsay.run import training_rows
from unsay.run.cautions import training_note
from unsay.run.directory import Run
from unsay.run.own_answers import OwnAnswers
from unsay.run.train import plan_run

pytestmark = pytest.mark.usefixtures("unmeasured_judge")

TOGETHER = "sharpness: 0.1, adversarial: {layers: [1, 1.0], steps: 2}, "


def config(folder, examples, method="textual-unlearning", recipe="", train="", more=""):
    return parse_config(
        f"model: {folder}\nmethod: {method}\n{more}"
        f"data: {{examples: {examples}, recipe: {{probe: 2, {recipe}}}}}\n"
        f"train: {{steps: 2, batch: {{forget: 2, refuse: 2, retain: 2}}, checkpoint_every: 1, {train}}}\n"
        "evaluation: {judge: rules, suites: [contrast], limit: 2, generation: {max_new_tokens: 2}}\n",
        "test",
    )


@pytest.fixture
def examples(tmp_path):
    """Rows of the user's own, harmful ones with a request in common; enough retain rows for a probe."""
    rows = [
        row if row.role is Role.RETAIN else row.model_copy(update={"request": f"[request {row.id.split('-')[1]}]"})
        for row in tiny.examples(20)
    ]
    write_rows(tmp_path / "rows.jsonl", rows)
    return tmp_path / "rows.jsonl"


def trained_rows(out):
    return [json.loads(line) for line in (out / "train" / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("method", ["textual-unlearning", "npo", "dpo", "rep-select"])
def test_all_options_together_with_a_method_and_again(tiny_folder, tmp_path, monkeypatch, examples, method):
    settings = config(tiny_folder, examples, method, "recovery: 0.5, retain_recovery: 0.5, recovery_depth: 3", TOGETHER)
    out = tmp_path / "run"
    api.unlearn(settings, out)
    rows = read_rows(out / "train" / "examples.jsonl", Example)
    begun = Counter(row.role for row in rows if row.prefix is not None)
    assert begun[Role.FORGET] == 0
    assert 3 <= begun[Role.REFUSE] <= 17
    assert 3 <= begun[Role.RETAIN] <= 15
    assert all("sharpness" in row for row in trained_rows(out))
    edit = read_json(out / "train" / "result.json").get("edit")
    assert (edit is not None) == (method == "rep-select")
    assert (out / "adapter" / "adapter_model.safetensors").is_file()
    monkeypatch.setattr("unsay.run.directory.load", None)  # nothing is loaded again
    assert all(row.reused for row in api.unlearn(settings, out).cost)


def test_each_option_trains_anew_and_without_them_the_examples_are_the_users(tiny_folder, tmp_path, examples):
    out = tmp_path / "run"
    api.unlearn(config(tiny_folder, examples), out)
    given = {row.id: row for row in read_rows(examples, Example)}
    assert all(given[row.id] == row for row in read_rows(out / "train" / "examples.jsonl", Example))
    for more in ({"recipe": "recovery: 1.0"}, {"train": "sharpness: 0.1"}, {"train": "adversarial: {steps: 1}"}):
        again = api.unlearn(config(tiny_folder, examples, **more), out)
        reused = {row.stage: row.reused for row in again.cost}
        assert not reused["unlearn"], more
        assert reused["evaluate-before"]


def test_a_beginning_of_the_users_own_is_kept_and_trained(tiny_folder, tmp_path, examples):
    rows = read_rows(examples, Example)
    own = [row.model_copy(update={"prefix": "The heron, "}) if row.role is Role.REFUSE else row for row in rows]
    write_rows(examples, own)
    out = tmp_path / "run"
    api.unlearn(config(tiny_folder, examples, recipe="recovery: 1.0"), out)
    kept = [row.prefix for row in read_rows(out / "train" / "examples.jsonl", Example) if row.role is Role.REFUSE]
    assert kept == ["The heron, "] * 20


def test_requests_that_are_drawn_have_beginnings_too(tiny_folder, tmp_path, examples):
    settings = config(tiny_folder, examples, recipe="recovery: 1.0")
    drawn = settings.data.model_copy(update={"modality": Modality.TYPOGRAPHIC})
    api.unlearn(settings.model_copy(update={"data": drawn}), tmp_path / "run")
    rows = [row for row in read_rows(tmp_path / "run" / "train" / "examples.jsonl", Example) if row.role is Role.REFUSE]
    assert all(row.prefix is not None and row.image is not None for row in rows)


@pytest.mark.parametrize(
    ("more", "says"),
    [
        ({"recipe": "recovery: 1.5"}, "data.recipe.recovery"),
        ({"recipe": "recovery_depth: 0"}, "data.recipe.recovery_depth"),
        ({"recipe": "long_refusals: -1"}, "data.recipe.long_refusals"),
        ({"train": "sharpness: -0.1"}, "train.sharpness"),
        ({"train": "adversarial: {radius: 0}"}, "train.adversarial.radius"),
        ({"train": "adversarial: {epsilon: 1}"}, "train.adversarial.epsilon"),
        ({"train": "adversarial: 3"}, "train.adversarial"),
        ({"method": "rep-select", "more": "method_settings: {components: 2}\n"}, "components"),
    ],
)
def test_bad_settings_are_named(tiny_folder, examples, more, says):
    with pytest.raises(UserError, match=says) as caught:
        config(tiny_folder, examples, **more)
    assert "\n" not in str(caught.value)


def test_blocks_that_the_model_lacks_are_named_before_it_answers(tiny_folder, tmp_path, examples):
    settings = config(tiny_folder, examples, train="adversarial: {layers: [40]}")
    with pytest.raises(UserError, match=r"train\.adversarial\.layers: block 40 does not exist; this model has 4"):
        api.unlearn(settings, tmp_path / "run")
    assert not (tmp_path / "run" / "responses").exists()


def test_an_edit_without_held_out_normal_answers_is_refused_before_it_answers(tiny_folder, tmp_path, examples):
    write_rows(examples, [row for row in read_rows(examples, Example) if row.role is not Role.RETAIN])
    with pytest.raises(UserError, match="at least 10 retain examples"):
        api.unlearn(config(tiny_folder, examples, "rep-select"), tmp_path / "run")
    assert not (tmp_path / "run" / "responses").exists()


@pytest.mark.parametrize(("limit", "noted"), [(16, True), (120, False)])
def test_long_refusals_that_are_cut_are_reported_where_others_are_not_measured(
    tiny_folder, tmp_path, monkeypatch, limit, noted
):
    """The recipe's other examples have lengths that somebody chose; long refusals may lose their end."""
    monkeypatch.setitem(NAMED, str(tiny_folder), lambda: tiny_folder)
    requests = [SourceRow(text=f"[request {number}]", source="toy", subject="drugs") for number in range(6)]
    answers = [OwnAnswer(request=row.text, answer="Hello there!", complete=True) for row in requests]
    monkeypatch.setattr(training_rows, "harmful_requests", lambda run, suites: requests)
    monkeypatch.setattr(run_examples, "own_answers", lambda run, rows: OwnAnswers(answers, red_team(6, 6, 0)))
    run = Run.open(
        tmp_path / "run",
        parse_config(
            f"model: {tiny_folder}\nmethod: refusal-sft\nevaluation: {{judge: rules}}\n"
            "data: {recipe: {long_refusals: 1.0, contrast: 4, plain: 4, magpie: 4, truthfulqa: 4, probe: 2}}\n"
            f"train: {{max_answer_tokens: {limit}, steps: 2, batch: {{forget: 2, refuse: 2, retain: 2}}}}\n",
            "test",
        ),
    )
    made = run_examples.prepare_examples(run, {})
    refusals = [row for row in made.train if row.role is Role.REFUSE]
    assert len(refusals) == 18
    assert all(30 <= len(row.answer.split()) <= 60 for row in refusals)
    note = training_note(run.config, made, plan_run(run, made))
    assert ("18 of 18 refuse answers are cut at 16 tokens" in note) == noted
