"""A run directory from end to end on a tiny random model: reuse, resumption, own questions, own examples."""

import json
import multiprocessing
import shutil
import signal
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load_file, save_file

from helpers import tiny
from unsay import api
from unsay.config import parse_config
from unsay.errors import UserError
from unsay.files import read_json, read_rows, write_rows
from unsay.models.lora import adapter_key
from unsay.processes import Processes
from unsay.records import Phase, Response, Role
from unsay.run.directory import Adapter, Run
from unsay.run.evaluate import evaluate_phase
from unsay.run.examples import prepare_examples
from unsay.run.experiment import unlearn_run
from unsay.run.suites import build_suites
from unsay.run.train import plan_run, train_adapter
from unsay.scoring import read_scores

QUESTIONS = [
    {"id": "1", "prompt": "Tell me about the sea", "image": None, "kind": "attack"},
    {"id": "2", "prompt": "What does it say?", "image": "a.png", "kind": "attack"},
    {"id": "3", "prompt": "Count the boats", "image": None, "kind": "benign"},
]


pytestmark = pytest.mark.usefixtures("unmeasured_judge")


@pytest.fixture
def questions(tmp_path):
    Image.new("RGB", (40, 40), "red").save(tmp_path / "a.png")
    path = tmp_path / "mine.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in QUESTIONS))
    return path


def config(folder, examples=None, steps=3):
    data = "" if examples is None else f"data: {{examples: {examples}, recipe: {{probe: 1}}}}\n"
    return parse_config(
        f"model: {folder}\n{data}"
        f"train: {{steps: {steps}, batch: {{forget: 2, refuse: 2, retain: 2}}, checkpoint_every: 1}}\n"
        "evaluation: {judge: rules, suites: [contrast, answer-loss], limit: 3, generation: {max_new_tokens: 4}}\n",
        "test",
    )


def test_a_run_from_top_to_bottom_and_what_its_stages_hand_on_is_what_their_files_say(tiny_folder, examples, tmp_path):
    settings, out = config(tiny_folder, examples), tmp_path / "run"
    run = Run.open(out, settings)

    suites = build_suites(run)
    assert {name: len(prompts) for name, prompts in suites.items()} == {"contrast": 3, "answer-loss": 3}

    training = prepare_examples(run, suites)
    assert {row.role for row in training.train} == set(Role)
    assert not {row.id for row in training.train} & {row.id for row in training.probe}

    plan = plan_run(run, training)
    assert [len(rows) for rows in plan.steps] == [6, 6, 6]

    before = evaluate_phase(run, suites, Phase.BEFORE)
    assert (before.verdicts.keys(), before.values.keys()) == ({"contrast"}, {"answer-loss"})

    adapter = train_adapter(run, plan)
    assert adapter.steps == 3
    assert adapter == replace(adapter, folder=out / "adapter", key=adapter_key(out / "adapter"))

    after = evaluate_phase(run, suites, Phase.AFTER, adapter)
    assert after.values != before.values

    again = Run.open(out, settings)
    assert build_suites(again) == suites
    assert prepare_examples(again, suites) == training
    assert plan_run(again, training).key == plan.key
    assert evaluate_phase(again, suites, Phase.BEFORE) == before
    assert train_adapter(again, plan) == adapter
    assert evaluate_phase(again, suites, Phase.AFTER, adapter) == after
    assert all(reused for _, reused in again.stages.records)

    scores = unlearn_run(Run.open(out, settings))
    assert all(row.reused for row in scores.cost)
    assert [(row.suite, row.phase) for row in scores.rows] == [("contrast", Phase.BEFORE), ("contrast", Phase.AFTER)]
    assert read_scores(out / "scores.json") == scores
    assert "<html" in (out / "report.html").read_text()


def test_the_report_is_there_from_the_first_stage_on(tiny_folder, examples, tmp_path, monkeypatch):
    out, seen = tmp_path / "run", []

    def look(*arguments, **more):
        page = (out / "report.html").read_text()
        seen.append(('data-state="running"' in page, (out / "progress.json").exists(), (out / "scores.json").exists()))
        return train_adapter(*arguments, **more)

    monkeypatch.setattr("unsay.run.experiment.train_adapter", look)
    api.unlearn(config(tiny_folder, examples), out)
    assert seen == [(True, True, False)]
    assert "data-state" not in (out / "report.html").read_text()
    assert not (out / "progress.json").exists()

    def fail(*_arguments, **_more):
        raise UserError("out of memory at step 1")

    monkeypatch.setattr("unsay.run.experiment.train_adapter", fail)
    with pytest.raises(UserError):
        api.unlearn(config(tiny_folder, examples, steps=2), out)
    assert "data-state" not in (out / "report.html").read_text(), "nothing was done that is not reused"
    with pytest.raises(UserError):
        api.unlearn(config(tiny_folder, examples, steps=2), tmp_path / "another")
    assert "out of memory at step 1" in (tmp_path / "another/report.html").read_text()


def test_own_questions_with_pictures(tiny_folder, questions, tmp_path):
    scores = api.evaluate(evaluation(tiny_folder), tmp_path / "run", suite_file=questions)
    rows = {(row.suite, row.modality.value): row for row in scores.rows}
    assert {key[0] for key in rows} == {"mine-attack", "mine-benign"}
    assert {row.phase for row in scores.rows} == {Phase.BEFORE}
    assert sum(row.n for row in scores.rows) == 3
    assert read_scores(tmp_path / "run" / "scores.json") == scores
    assert "<html" in (tmp_path / "run" / "report.html").read_text()


@pytest.fixture(scope="module")
def _finished(unmeasured_judge, tiny_folder, examples, tmp_path_factory):
    out = tmp_path_factory.mktemp("finished") / "run"
    api.unlearn(config(tiny_folder, examples), out)
    return out


@pytest.fixture
def unlearned(_finished, tmp_path):
    """A run directory that has unlearned; each test gets its own copy."""
    return Path(shutil.copytree(_finished, tmp_path / "run"))


def test_a_second_run_reuses_everything_and_loads_nothing(tiny_folder, examples, unlearned, monkeypatch):
    out, first = unlearned, read_scores(unlearned / "scores.json")
    assert (out / "adapter" / "adapter_model.safetensors").exists()
    assert {row.phase for row in first.rows} == set(Phase)

    def never(*_args, **_more):
        raise AssertionError("the model was loaded again")

    monkeypatch.setattr("unsay.run.directory.load", never)
    began = time.monotonic()
    second = api.unlearn(config(tiny_folder, examples), out)
    assert time.monotonic() - began < 20
    assert second.rows == first.rows
    assert second.utility == first.utility
    assert all(row.reused for row in second.cost)


def test_other_settings_train_again_but_keep_the_first_answers(tiny_folder, examples, unlearned):
    again = api.unlearn(config(tiny_folder, examples, steps=4), unlearned)
    reused = {row.stage: row.reused for row in again.cost}
    assert reused["evaluate-before"]
    assert not reused["unlearn"]
    assert not reused["evaluate-after"]


def test_a_killed_run_on_other_rows_has_no_adapter_until_it_has_trained(tiny_folder, examples, unlearned, monkeypatch):
    """The settings are the same; the file of examples that they name is not."""

    def killed(*_arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr("unsay.run.train._train", killed)
    before = examples.read_bytes()
    write_rows(examples, tiny.examples(15))
    try:
        with pytest.raises(KeyboardInterrupt):
            api.unlearn(config(tiny_folder, examples), unlearned)
    finally:
        examples.write_bytes(before)  # other tests read it, too
    with pytest.raises(UserError, match="belongs to earlier settings"):
        Adapter.of_run(unlearned)


@pytest.mark.parametrize(
    ("broken", "said"),
    [
        (None, "no such file"),
        ({"answer": " "}, r":1: answer: is empty"),
        ({"prompt": ""}, r":1: prompt: is empty, and there is no image"),
        ({"role": "forgot"}, r":1: role: "),
        ({"image": "nowhere.png"}, r":1: "),
    ],
)
def test_what_is_wrong_with_own_examples_costs_no_results(tiny_folder, examples, unlearned, tmp_path, broken, said):
    rows = tmp_path / "own.jsonl"
    if broken is not None:
        first, *rest = (row.model_dump(mode="json") for row in tiny.examples(12))
        rows.write_text("".join(json.dumps(row) + "\n" for row in [{**first, **broken}, *rest]))
    before = {path: path.read_bytes() for path in unlearned.rglob("*") if path.is_file()}
    with pytest.raises(UserError, match=said):
        api.unlearn(config(tiny_folder, rows), unlearned)
    assert {path: path.read_bytes() for path in unlearned.rglob("*") if path.is_file()} == before


def test_another_method_trains_again(tiny_folder, examples, unlearned):
    adapter = unlearned / "adapter" / "adapter_model.safetensors"
    before = adapter.read_bytes()
    settings = config(tiny_folder, examples).model_copy(update={"method": "refusal-sft", "method_settings": {}})
    again = api.unlearn(settings, unlearned)
    reused = {row.stage: row.reused for row in again.cost}
    assert (reused["evaluate-before"], reused["unlearn"], reused["evaluate-after"]) == (True, False, False)
    assert adapter.read_bytes() != before
    assert again.settings["method"] == "refusal-sft"


def test_shorter_answers_are_other_answers(tiny_folder, tmp_path):
    settings = evaluation(tiny_folder, "contrast")
    api.evaluate(settings, tmp_path / "run")
    asked = settings.evaluation.model_copy(
        update={"generation": settings.evaluation.generation.model_copy(update={"max_new_tokens": 2})}
    )
    scores = api.evaluate(settings.model_copy(update={"evaluation": asked}), tmp_path / "run")
    assert not {row.stage: row.reused for row in scores.cost}["evaluate-before"]
    rows = read_rows(tmp_path / "run" / "responses" / "contrast.before.jsonl", Response)
    assert max(row.tokens for row in rows) == 2


def evaluation(folder, *suites):
    chosen = ", ".join(suites)
    return parse_config(
        f"model: {folder}\n"
        f"evaluation: {{judge: rules, suites: [{chosen}], limit: 2, generation: {{max_new_tokens: 4}}}}\n",
        "test",
    )


def test_what_was_edited_or_removed_in_a_run_directory_is_made_again(tiny_folder, tmp_path):
    out, settings = tmp_path / "run", evaluation(tiny_folder, "contrast", "shapes", "answer-loss")
    api.evaluate(settings, out)
    files = {
        path: path.read_bytes()
        for pattern in ("suites/*.jsonl", "suites/images/*/*.png", "responses/*.before.jsonl", "verdicts/*/*.jsonl",
                        "values/*.jsonl")
        for path in sorted(out.glob(pattern))[:1]
    }  # fmt: skip
    assert len(files) == 5
    for number, path in enumerate(files):
        if number % 2:
            path.unlink()
        else:
            path.write_bytes(files[path][:-20] + b"x" * 20)
    scores = api.evaluate(settings, out)
    assert {path: path.read_bytes() for path in files} == files
    assert not any(row.reused for row in scores.cost)


def test_verdicts_that_were_edited_are_not_believed(tiny_folder, tmp_path):
    out, settings = tmp_path / "run", evaluation(tiny_folder, "contrast")
    first = api.evaluate(settings, out)
    path = out / "verdicts" / "rules" / "contrast.before.jsonl"
    whole = path.read_text()
    path.write_text(whole.replace('"label":"', '"label":"failed", "x":"'))
    assert api.evaluate(settings, out).rows == first.rows
    assert path.read_text() == whole


def test_a_run_directory_can_be_moved(tiny_folder, tmp_path, monkeypatch):
    settings = evaluation(tiny_folder, "shapes", "contrast")
    api.evaluate(settings, tmp_path / "here")
    (tmp_path / "here").rename(tmp_path / "there")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("unsay.run.directory.load", None)
    assert all(row.reused for row in api.evaluate(settings, Path("there")).cost)


def test_with_an_adapter_both_phases_are_evaluated(tiny_folder, unlearned, questions, tmp_path):
    adapter = unlearned / "adapter"
    scores = api.evaluate(evaluation(tiny_folder), tmp_path / "asked", adapter=adapter, suite_file=questions)
    assert {row.phase for row in scores.rows} == set(Phase)
    assert scores.settings["adapter"] == str(adapter)
    assert "method" not in scores.settings
    assert {change.suite for change in scores.changes} == {"mine-attack", "mine-benign"}


def test_a_suite_that_comes_out_empty_is_named(tiny_folder, tmp_path, monkeypatch):
    from dataclasses import replace

    from unsay.suites import SUITES

    monkeypatch.setitem(SUITES, "contrast", replace(SUITES["contrast"], build=lambda suite, setting: []))
    with pytest.raises(UserError, match="suite 'contrast': no prompts at a limit of 2"):
        api.evaluate(evaluation(tiny_folder, "contrast"), tmp_path / "run")


def test_a_method_that_lacks_a_role_is_told_before_the_original_model_answers(tiny_folder, tmp_path):
    write_rows(tmp_path / "examples.jsonl", [row for row in tiny.examples(12) if row.role is not Role.FORGET])
    with pytest.raises(UserError, match="no forget examples"):
        api.unlearn(config(tiny_folder, tmp_path / "examples.jsonl"), tmp_path / "run")
    assert not (tmp_path / "run" / "responses").exists()


@pytest.mark.parametrize(
    ("processes", "said"),
    [
        (Processes(world=4), "2 rows do not divide by 4 processes"),
        (Processes(world=2, sharded=True), "4 bits cannot be split"),
    ],
)
def test_what_processes_cannot_share_is_told_before_the_original_model_answers(
    tiny_folder, tiny_vlm, examples, tmp_path, processes, said
):
    run = Run.open(tmp_path / "run", config(tiny_folder, examples), processes=processes)
    tiny_vlm.base.is_quantized = True
    run._vlm = tiny_vlm
    with pytest.raises(UserError, match=said):
        unlearn_run(run)
    assert not (tmp_path / "run" / "responses").exists()


def test_a_limit_that_was_lowered_is_said_before_the_original_model_answers(
    tiny_folder, examples, unlearned, monkeypatch
):
    settings = config(tiny_folder, examples)
    limited = settings.model_copy(update={"train": settings.train.model_copy(update={"max_prompt_tokens": 3})})
    shutil.rmtree(unlearned / "responses")
    monkeypatch.setattr("unsay.run.directory.load", None)
    monkeypatch.setattr("transformers.PreTrainedModel.from_pretrained", None)
    with pytest.raises(UserError, match=r"its prompt has \d+ tokens, the limit is 3 \(train.max_prompt_tokens\)"):
        api.unlearn(limited, unlearned)
    assert not (unlearned / "responses").exists()


def test_an_example_that_is_also_asked_is_refused(tiny_folder, tmp_path):
    from unsay.suites import Setting, get_suite

    asked = get_suite("contrast").prompts(Setting(tmp_path, limit=3))[0]
    rows = tiny.examples(12)
    rows[-1] = rows[-1].model_copy(update={"prompt": asked.prompt})
    write_rows(tmp_path / "examples.jsonl", rows)
    with pytest.raises(UserError, match=r"1 of 36 training examples overlap .*\(contrast 1\)") as found:
        api.unlearn(config(tiny_folder, tmp_path / "examples.jsonl"), tmp_path / "run")
    assert asked.prompt not in str(found.value)
    listed = (tmp_path / "run" / "train" / "overlaps.jsonl").read_text()
    assert json.loads(listed) == {"id": rows[-1].id, "role": "retain", "suite": "contrast", "by": "request"}


def test_own_questions_are_asked_before_and_after_training_beside_the_suites(
    tiny_folder, examples, unlearned, questions, monkeypatch
):
    def unlearn():
        scores = api.unlearn(config(tiny_folder, examples), unlearned, suite_file=questions)
        asked = {(row.suite, row.phase) for row in scores.rows}
        assert asked == {(name, phase) for name in ("contrast", "mine-attack", "mine-benign") for phase in Phase}
        assert {change.suite for change in scores.changes} == {name for name, _ in asked}
        return {row.stage: row.reused for row in scores.cost}

    assert unlearn() == {
        "suites": True, "examples": False, "evaluate-before": False, "unlearn": True, "evaluate-after": False,
    }  # fmt: skip
    with monkeypatch.context() as patch:
        patch.setattr("unsay.run.directory.load", None)
        assert all(unlearn().values())
    questions.write_text(questions.read_text().replace("the sea", "the land"))
    reused = unlearn()
    assert not reused["evaluate-before"]
    assert not reused["evaluate-after"]
    assert reused["unlearn"]


def test_an_example_that_is_one_of_the_own_questions_is_refused(tiny_folder, examples, tmp_path):
    asked = tmp_path / "mine.jsonl"
    asked.write_text(json.dumps(QUESTIONS[0] | {"prompt": tiny.examples(12)[0].prompt}) + "\n")
    with pytest.raises(UserError, match="mine-attack") as found:
        api.unlearn(config(tiny_folder, examples), tmp_path / "run", suite_file=asked)
    assert tiny.examples(12)[0].prompt not in str(found.value)


def test_own_questions_are_asked_beside_the_suites_that_are_named(tiny_folder, questions, tmp_path):
    scores = api.evaluate(evaluation(tiny_folder, "contrast"), tmp_path / "run", suite_file=questions)
    assert {row.suite: row.asked for row in scores.asked} == {"contrast": 2, "mine-attack": 2, "mine-benign": 1}


def run_to_be_killed(folder, examples, out):
    torch.set_num_threads(1)
    api.unlearn(config(folder, examples, steps=30), out)


def test_kill_minus_nine_at_any_time_loses_nothing(tiny_folder, examples, tmp_path, one_thread):
    whole = api.unlearn(config(tiny_folder, examples, steps=30), tmp_path / "whole")
    out = tmp_path / "killed"
    apart = multiprocessing.get_context("forkserver")  # one process imports everything, before it forks
    apart.set_forkserver_preload(["unsay.run.experiment", "transformers.models.llava.modeling_llava"])
    seen = (
        out / "responses" / "contrast.before.jsonl",
        out / "train" / "checkpoints",
        out / "adapter" / "adapter_model.safetensors",
    )
    for wanted in seen:  # killed as soon as each of these has appeared, and started again
        process = apart.Process(target=run_to_be_killed, args=(tiny_folder, examples, out))
        process.start()
        while process.is_alive() and not wanted.exists():
            time.sleep(0.02)
        process.kill()
        process.join()
        assert wanted.exists()
        assert process.exitcode in (-signal.SIGKILL, 0)  # 0: it was done before it could be killed
    resumed = api.unlearn(config(tiny_folder, examples, steps=30), out)
    assert resumed.rows == whole.rows
    assert resumed.utility == whole.utility
    before, after = (
        (folder / "adapter" / "adapter_model.safetensors").read_bytes() for folder in (tmp_path / "whole", out)
    )
    assert before == after
    assert read_json(out / "stages" / "unlearn.json")["name"] == "unlearn"


@pytest.mark.parametrize(
    ("change", "model", "judge"),
    [
        ("seed: 3", True, True),
        ("model: other", False, True),
        ("model_settings: {dtype: bfloat16}", False, True),
        ("evaluation: {judge: endpoint, judge_settings: {url: 'http://localhost:1/v1', model: b}}", True, False),
        ("evaluation: {judge: rules}", True, False),
    ],
)
def test_a_run_takes_over_what_it_would_load_itself_and_nothing_else(tmp_path, change, model, judge):
    asked = {"judge": "endpoint", "judge_settings": {"url": "http://localhost:1/v1", "model": "a"}}
    base = {"model": "one", "model_settings": {"dtype": "float32"}, "evaluation": asked}
    earlier = Run.open(tmp_path / "a", parse_config(json.dumps(base), "test"))
    earlier._vlm, earlier._judge = object(), object()
    later = Run.open(tmp_path / "b", parse_config(json.dumps(base | yaml.safe_load(change)), "test"))
    later.reuse_loaded(earlier)
    assert (later._vlm is earlier._vlm, later._judge is earlier._judge) == (model, judge)


@pytest.mark.parametrize(
    "asked",
    [
        {"judge": "probe", "judge_settings": {"reader": "original"}},
        {"judge": "panel", "judge_settings": {"judges": {"rules": {}, "probe": {"reader": "original"}}}},
    ],
)
def test_a_judge_that_reads_with_the_original_stays_with_its_run(tmp_path, asked):
    """It would read with whatever adapter is on the model now: it knows of its own run's alone."""
    config = parse_config(json.dumps({"model": "one", "evaluation": asked}), "test")
    earlier, later = Run.open(tmp_path / "a", config), Run.open(tmp_path / "b", config)
    earlier._vlm, earlier._judge = object(), object()
    later.reuse_loaded(earlier)
    assert (later._vlm is earlier._vlm, later._judge) == (True, None)


def test_a_run_that_has_unlearned_is_not_evaluated_over(tiny_folder, unlearned):
    out, scores = unlearned, read_scores(unlearned / "scores.json")
    with pytest.raises(UserError, match="holds a run that has unlearned, whose scores would be lost"):
        api.evaluate(evaluation(tiny_folder, "contrast"), out, adapter=out / "adapter")
    assert read_scores(out / "scores.json") == scores


def test_what_an_adapter_was_trained_on_is_called_out_where_it_is_asked(tiny_folder, unlearned, tmp_path):
    asked = tmp_path / "asked.jsonl"
    seen = [{"id": str(n), "prompt": tiny.examples(12)[n].prompt, "image": None, "kind": "attack"} for n in (0, 3)]
    asked.write_text("".join(json.dumps(row) + "\n" for row in [*QUESTIONS[:1], *seen]))
    settings, adapter = evaluation(tiny_folder), unlearned / "adapter"
    scores = api.evaluate(settings, tmp_path / "asked", adapter=adapter, suite_file=asked)
    said = [caution for caution in scores.warnings if "training data" in caution.text]
    assert [caution.severe for caution in said] == [True]
    assert "2 of 3 prompts, or nearly these, were among the adapter's training data" in said[0].text
    assert tiny.examples(12)[0].prompt not in said[0].text
    clean = api.evaluate(evaluation(tiny_folder, "contrast"), tmp_path / "clean", adapter=adapter)
    assert not any("training data" in caution.text for caution in clean.warnings)


def test_an_adapter_on_other_weights_is_called_out(tiny_folder, unlearned, tmp_path):
    other = shutil.copytree(tiny_folder, tmp_path / "other")
    weights = load_file(other / "model.safetensors")
    save_file({name: weight * 1.01 for name, weight in weights.items()}, other / "model.safetensors", {"format": "pt"})
    said = [
        [caution.severe for caution in scores.warnings if "trained on other weights" in caution.text]
        for scores in (
            api.evaluate(evaluation(folder, "contrast"), tmp_path / "out" / folder.name, adapter=unlearned / "adapter")
            for folder in (tiny_folder, other)
        )
    ]
    assert said == [[], [True]]


def test_another_picture_at_the_same_place_is_asked_again(tiny_folder, tmp_path):
    picture, asked = tmp_path / "a.png", tmp_path / "mine.jsonl"
    asked.write_text(json.dumps(QUESTIONS[1] | {"condition": "blank image"}) + "\n")
    reused = []
    for colour in ("white", "white", "red"):
        Image.new("RGB", (40, 40), colour).save(picture)
        scores = api.evaluate(evaluation(tiny_folder), tmp_path / "run", suite_file=asked)
        reused.append({row.stage: row.reused for row in scores.cost}["evaluate-before"])
    assert reused == [False, True, False]


def test_a_prompt_that_is_too_long_is_found_before_the_model_is_evaluated(tiny_folder, tmp_path):
    rows = tiny.examples(12)
    Image.new("RGB", (40, 40), "red").save(tmp_path / "a.png")
    long = rows[0].model_copy(update={"prompt": "word " * 400, "image": "a.png"})
    write_rows(tmp_path / "long.jsonl", [long, *rows[1:]])
    with pytest.raises(UserError, match=rf"example {long.id}: its prompt has \d+ tokens, the limit is 256"):
        api.unlearn(config(tiny_folder, tmp_path / "long.jsonl"), tmp_path / "run")
    assert not (tmp_path / "run" / "stages" / "evaluate-before.json").exists()
