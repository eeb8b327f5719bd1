"""Studies of a tiny model from end to end: budgets, shared work, failures, kills, Ray."""

import importlib.util
import json
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import pytest

from helpers import killable, study_of_tiny, tiny
from unsay.errors import UserError
from unsay.files import read_json, write_json, write_rows, write_text
from unsay.records import Role
from unsay.run.finished import read_run
from unsay.studies import launcher, read_result, run_study
from unsay.studies.job import RESULT_FILES, Job, JobStatus, Worker, copy_shared_stages, job_key, read_status
from unsay.studies.known import StudyRuns
from unsay.studies.runner import used_budget
from unsay.studies.settings import StudyDirectory
from unsay.training import train

pytestmark = pytest.mark.usefixtures("unmeasured_judge")


def used_by(folder, at_steps=None):
    return used_budget(read_run(folder), at_steps)


def adapters(out):
    return {
        path.relative_to(out).as_posix(): path.read_bytes()
        for path in sorted(out.glob("arms/*/*/*/adapter/adapter_model.safetensors"))
    }


def test_every_arm_rule_and_seed_is_a_run(finished):
    out, result = finished
    assert [(arm.name, arm.rules, arm.state, arm.seeds) for arm in result.arms] == [
        ("original", ("steps", "tokens"), "finished", (0, 1)),
        ("unlearn@steps", ("steps", "tokens"), "finished", (0, 1)),
        ("sft@steps", ("steps",), "finished", (0, 1)),
        ("sft@tokens", ("tokens",), "finished", (0, 1)),
    ]
    assert len(adapters(out)) == 3 * 2
    assert read_result(out / "study.json") == result
    assert (out / "study.html").stat().st_size > 10_000


def test_equal_tokens_are_what_the_reference_of_the_same_seed_used(finished):
    out, result = finished
    for seed in (0, 1):
        tokens, seconds = used_by(out / f"arms/tiny/unlearn@steps/seed-{seed}")
        rows = (out / f"arms/tiny/sft@tokens/seed-{seed}/train/metrics.jsonl").read_text().splitlines()
        spent = [json.loads(row)["tokens"] for row in rows]
        assert f"max_tokens: {tokens}\n" in (out / f"arms/tiny/sft@tokens/seed-{seed}/config.yaml").read_text()
        assert spent[-1] <= tokens
        assert tokens < spent[-1] + max(b - a for a, b in zip([0, *spent], spent, strict=False))  # no room for a step
        assert seconds > 0
        assert used_by(out / f"arms/tiny/unlearn@steps/seed-{seed}", at_steps=3)[0] == tokens
        assert used_by(out / f"arms/tiny/unlearn@steps/seed-{seed}", at_steps=1)[0] < tokens
    costs = {arm.name: arm.cost for arm in result.arms}
    assert costs["unlearn@steps"].ratios["tokens"] == 1.0
    assert costs["sft@steps"].steps == 3
    assert costs["sft@tokens"].steps > 3  # without forget rows a step is cheaper, so there are more of them
    assert costs["sft@tokens"].ratios["tokens"] == pytest.approx(
        costs["sft@tokens"].tokens / costs["unlearn@steps"].tokens
    )
    with pytest.raises(UserError, match="has no step 9"):
        used_by(out / "arms/tiny/unlearn@steps/seed-0", at_steps=9)


def test_the_original_is_evaluated_once_for_all(finished):
    out, _ = finished
    original = read_json(out / "originals/tiny/stages/evaluate-before.json")
    for arm in out.glob("arms/*/*/*"):
        assert read_json(arm / "stages/evaluate-before.json") == original
        reused = {row["stage"]: row["reused"] for row in read_json(arm / "scores.json")["cost"]}
        assert reused["evaluate-before"]
        assert not reused["evaluate-after"]


def test_a_finished_study_is_not_run_again(finished, tiny_folder, examples, monkeypatch, one_thread):
    out, result = finished

    def never(*_args, **_more):
        raise AssertionError("the model was loaded again")

    monkeypatch.setattr("unsay.run.directory.load", never)
    again = run_study(
        study_of_tiny.study(tiny_folder, examples), out, launcher("sequential"), command="unsay study"
    )  # fmt: skip
    assert again == result


def test_a_run_with_scores_of_another_version_is_not_finished(tmp_path, monkeypatch):
    job = Job("again", tmp_path, None, {})
    key = job_key(job)
    assert key == job_key(job)
    monkeypatch.setattr("unsay.studies.job.SCHEMA_VERSION", 0)
    assert job_key(job) != key


def test_another_version_of_the_built_in_training_data_is_another_job(tmp_path, monkeypatch, examples):
    own = Job("t", tmp_path, tmp_path, {"data": {"examples": str(examples)}})
    jobs = [Job("t", tmp_path, None, {}), own, Job("t", tmp_path, tmp_path, {})]
    keys = [job_key(job) for job in jobs]
    monkeypatch.setattr("unsay.data.recipe.VERSION", 0)
    assert [job_key(job) == key for job, key in zip(jobs, keys, strict=True)] == [True, True, False]


def test_no_prompt_and_no_answer_leaves_the_run_directories(finished):
    out, _ = finished
    said = []
    for path in out.glob("**/suites/*.jsonl"):
        said += [json.loads(line)["request"] for line in path.read_text().splitlines()]
    for path in out.glob("**/responses/*.jsonl"):
        rows = [json.loads(line) for line in path.read_text().splitlines() if line.strip()]
        said += [row["response"] for row in rows if isinstance(row, dict)]
    assert len(said) > 50
    for name in ("study.json", "study.html", "study.yaml", "runs.jsonl"):
        text = (out / name).read_text()
        assert not any(len(words) > 12 and words in text for words in said), name


def test_a_failed_arm_is_reported_and_the_others_go_on(tiny_folder, examples, tmp_path, monkeypatch):
    """Only the fine-tuning can be trained; the reference fails, and what hangs on it."""

    def train_some(vlm, plan, *args, **more):
        if Role.FORGET in plan.needs.roles:
            raise UserError("no memory to forget in")
        return train(vlm, plan, *args, **more)

    out = tmp_path / "out"
    study = study_of_tiny.study(tiny_folder, examples, seeds=[0])
    monkeypatch.setattr("unsay.run.train.train", train_some)
    result = run_study(study, out, launcher("sequential"))
    found = {arm.name: arm for arm in result.arms}
    assert {name: arm.state for name, arm in found.items()} == {
        "original": "finished", "unlearn@steps": "failed", "sft@steps": "finished", "sft@tokens": "failed",
    }  # fmt: skip
    assert found["unlearn@steps"].failed[0].reason == "no memory to forget in"
    assert (out / "arms/tiny/unlearn@steps/seed-0/error.txt").exists()
    assert found["sft@tokens"].failed[0].reason == "its budget is what unlearn used, and that failed"
    assert [place.arm for place in result.rankings[0].places] == ["original", "sft@steps"]
    assert "no memory to forget in" in (out / "study.html").read_text()
    monkeypatch.setattr("unsay.run.train.train", train)  # mended, and run again
    mended = run_study(study, out, launcher("sequential"))
    assert {arm.state for arm in mended.arms} == {"finished"}
    assert not list(out.rglob("error.txt"))


@pytest.mark.parametrize(
    ("roles", "batch", "said"),
    [
        ([], {}, r"arm 'unlearn': .*rows\.jsonl: no such file"),
        ([Role.REFUSE, Role.RETAIN], {}, "arm 'unlearn': training data: no forget examples"),
        (list(Role), {"forget": 0}, r"arm 'unlearn': train\.batch\.forget: is 0, but the method needs that role"),
    ],
)
def test_what_cannot_be_trained_is_said_before_a_model_is_loaded(
    tiny_folder, tmp_path, monkeypatch, roles, batch, said
):
    def never(*_args, **_more):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("unsay.run.directory.load", never)
    path = tmp_path / "rows.jsonl"
    if roles:
        write_rows(path, [row for row in tiny.examples(12) if row.role in roles])
    study = study_of_tiny.study(tiny_folder, path, settings={"train": {"batch": batch}})
    with pytest.raises(UserError, match=said):
        run_study(study, tmp_path / "out", launcher("sequential"))
    assert not (tmp_path / "out").exists()


def test_a_strangers_error_is_told_without_its_message(tiny_folder, examples, tmp_path, monkeypatch):
    def broken(*_args, **_more):
        raise ValueError("[request 1]")

    monkeypatch.setattr("unsay.run.train.train", broken)
    study = study_of_tiny.study(tiny_folder, examples, seeds=[0], budget={})
    result = run_study(study, tmp_path / "out", launcher("sequential"))
    reason = result.find("sft@steps").failed[0].reason
    assert reason.startswith("ValueError at test_runner.py:")
    assert "[request 1]" not in (tmp_path / "out/study.json").read_text() + (tmp_path / "out/study.html").read_text()


def test_a_run_is_no_directory_of_a_study(tiny_folder, examples, tmp_path):
    write_text(tmp_path / "config.yaml", "model: pocket")
    with pytest.raises(UserError, match="holds a run; choose another --out"):
        run_study(study_of_tiny.study(tiny_folder, examples), tmp_path, launcher("sequential"))
    assert not (tmp_path / "study.yaml").exists()


def test_a_model_that_cannot_be_loaded_ends_the_study(examples, tmp_path):
    with pytest.raises(UserError, match="the original model cannot be evaluated"):
        run_study(study_of_tiny.study(tmp_path / "none", examples), tmp_path / "out", launcher("sequential"))


def test_what_is_copied_for_an_arm_is_copied_once(finished, tmp_path):
    original = finished[0] / "originals/tiny"
    copy_shared_stages(original, tmp_path)
    answers = tmp_path / "responses/advbench.before.jsonl"
    assert answers.read_bytes() == (original / "responses/advbench.before.jsonl").read_bytes()
    assert answers.stat().st_mtime_ns == (original / "responses/advbench.before.jsonl").stat().st_mtime_ns
    answers.write_text("made anew")
    copy_shared_stages(original, tmp_path)
    assert answers.read_text() == "made anew"


def test_an_arms_own_answers_stay_when_the_original_has_new_ones(finished, tmp_path):
    original = shutil.copytree(finished[0] / "originals/tiny", tmp_path / "original")
    arm = tmp_path / "arm"
    copy_shared_stages(original, arm)
    cache = arm / "responses/cache.jsonl"
    cache.write_text(cache.read_text() + '["own", {"torn', encoding="utf-8")
    record = original / "stages/evaluate-before.json"
    write_json(record, read_json(record) | {"key": "another"})
    copy_shared_stages(original, arm)
    lines = cache.read_text().splitlines()
    assert lines.count('["own", {"torn') == 1
    known = [line for line in (original / "responses/cache.jsonl").read_text().splitlines() if line]
    assert known
    assert all(lines.count(line) == 2 for line in known)


def versioned(folder, version):
    path = folder / "environment.json"
    write_json(path, read_json(path) | {"unsay": version})


def test_runs_of_an_earlier_version_are_not_added_to(tiny_folder, examples, tmp_path, monkeypatch):
    """Before anything is trained, and with the folder that is in the way."""
    study, out = study_of_tiny.study(tiny_folder, examples, seeds=[0], budget={}), tmp_path / "out"
    first = run_study(study, out, launcher("sequential"))
    folders = [out / "originals/tiny", *out.glob("arms/*/*/*")]
    assert len(folders) == 3
    for folder in folders:
        versioned(folder, "0.0.9")
    again = run_study(study, out, launcher("sequential"))  # it is only read, and what made it stays what it was
    assert again.arms == first.arms
    assert again.environment["unsay"] == "0.0.9"
    assert {read_json(folder / "environment.json")["unsay"] for folder in folders} == {"0.0.9"}

    def never(*_args, **_more):
        raise AssertionError("trained")

    monkeypatch.setattr("unsay.run.train.train", never)
    more = study_of_tiny.study(tiny_folder, examples, seeds=[0, 1], budget={})
    with pytest.raises(UserError, match=r"seed-0: made with unsay 0\.0\.9, but here it is unsay 0\.1\.0: runs of diff"):
        run_study(more, out, launcher("sequential"))


def test_seconds_are_a_budget_on_the_hardware_that_they_were_measured_on(tmp_path):
    """The launcher counts too: of tasks side by side each has fewer threads."""
    status = Worker().do(Job("t", tmp_path / "arm", tmp_path / "original", {}, timed_on=(999, 1, None)))
    assert status.state == "failed"
    assert "measured on other hardware" in status.reason


def test_killed_at_any_time_a_study_goes_on_to_the_same_result(finished, tiny_folder, examples, tmp_path, one_thread):
    """`kill -9` in mid-training of the first arm, and between two arms; then everything is there, to the same bits."""
    whole, _ = finished
    out = tmp_path / "out"
    moments = (
        out / "arms/tiny/unlearn@steps/seed-0/train/checkpoints/step-000001.pt",
        out / "arms/tiny/sft@steps/seed-0/arm.json",
    )
    for moment in moments:
        process = killable.start(tmp_path / "errors.txt", study_of_tiny.run, tiny_folder, examples, out)
        while process.is_alive() and not moment.exists():
            time.sleep(0.005)
        process.kill()
        process.join()
        assert process.exitcode == -signal.SIGKILL, "it ended before it could be killed"
    kept = (out / "arms/tiny/unlearn@steps/seed-0/arm.json").stat().st_mtime_ns
    result = run_study(study_of_tiny.study(tiny_folder, examples, seeds=[0]), out, launcher("sequential"))
    assert {arm.state for arm in result.arms} == {"finished"}
    assert (out / "arms/tiny/unlearn@steps/seed-0/arm.json").stat().st_mtime_ns == kept  # what was done stays done
    again = adapters(out)
    assert len(again) == 3
    assert again == {name: content for name, content in adapters(whole).items() if name in again}
    for name in again:
        mine, theirs = (read_json(root / Path(name).parents[1] / "scores.json") for root in (out, whole))
        assert [mine[part] for part in ("rows", "utility")] == [theirs[part] for part in ("rows", "utility")]


def test_a_half_written_state_is_no_state(tmp_path):
    (tmp_path / "arm.json").write_text('{"state": "fini')
    assert read_status(tmp_path) is None


def test_a_run_of_edited_settings_is_never_taken_for_the_earlier_one(tmp_path, monkeypatch):
    """Killed when its scores are written and its state is not; then the settings are put back."""
    folder = tmp_path / "arm"
    earlier, edited = (Job("t", folder, tmp_path / "original", {"train": {"steps": steps}}) for steps in (1, 2))
    write_json(folder / "arm.json", JobStatus(state="finished", key=job_key(earlier)).model_dump(mode="json"))

    def killed(run):
        for name in RESULT_FILES:
            write_json(run.folder / name, {})
        raise KeyboardInterrupt

    monkeypatch.setattr("unsay.studies.job.unlearn_run", killed)
    with pytest.raises(KeyboardInterrupt):
        Worker().do(edited)
    assert read_status(folder) is None


def test_what_is_gone_of_an_arm_is_done_again_and_nothing_else(
    finished, tiny_folder, tmp_path, monkeypatch, one_thread
):
    out = shutil.copytree(finished[0], tmp_path / "out")
    lost, damaged = out / "arms/tiny/sft@steps/seed-0", out / "arms/tiny/sft@tokens/seed-1"
    shutil.rmtree(lost / "verdicts")
    (damaged / "verdicts/rules/advbench.after.jsonl").write_text("{")
    runs = StudyRuns(StudyDirectory(out))
    assert runs.trained("tiny", "sft@steps", 0) == (
        "its files cannot be read: verdicts/rules/advbench.before.jsonl: no such file"
    )
    assert runs.trained("tiny", "sft@tokens", 1).startswith(
        "its files cannot be read: verdicts/rules/advbench.after.jsonl:1: not JSON"
    )

    def never(*_args, **_more):
        raise AssertionError("trained")

    monkeypatch.setattr("unsay.run.train.train", never)
    study = study_of_tiny.study(tiny_folder, finished[0].parent / "examples.jsonl")
    assert run_study(study, out, launcher("sequential"), command="unsay study") == finished[1]


def test_an_original_that_cannot_be_read_is_said_with_the_file(finished, tiny_folder, examples, tmp_path):
    out = shutil.copytree(finished[0], tmp_path / "out")
    (out / "originals/tiny/environment.json").write_text("{")
    with pytest.raises(UserError, match=r"the original model cannot be evaluated: .*environment\.json.*JSON"):
        run_study(study_of_tiny.study(tiny_folder, examples), out, launcher("sequential"))


def test_an_unknown_launcher_is_named():
    with pytest.raises(UserError, match="unknown 'slurm'; known are sequential, ray"):
        launcher("slurm")


def test_ray_that_is_not_installed_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install 'unsay\[ray\]'"):
        launcher("ray")


@pytest.mark.slow
@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="Ray is not installed: pip install 'unsay[ray]'")
def test_two_workers_of_a_local_ray_come_to_the_same_result(finished, tiny_folder, examples, tmp_path, monkeypatch):
    import ray

    tests = Path(__file__).parents[1]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tests.parent / "src"), str(tests)]))
    monkeypatch.setenv("RAY_memory_monitor_refresh_ms", "0")  # it ends tasks when others fill the machine's memory
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, logging_level="error")
    try:
        settings = study_of_tiny.study(tiny_folder, examples)
        out = tmp_path / "out"
        result = run_study(settings, out, launcher("ray"))
    finally:
        ray.shutdown()
    assert [(arm.name, arm.state) for arm in result.arms] == [(arm.name, arm.state) for arm in finished[1].arms]
    assert [arm.measures for arm in result.arms] == [arm.measures for arm in finished[1].arms]


def test_runs_on_an_accelerator_take_a_gpu_each():
    from unsay.studies.launch import resources

    assert resources(Job("t", Path(), None, {"device": "cuda"})) == {"num_gpus": 1, "num_cpus": 1}
    assert resources(Job("t", Path(), None, {"device": "cpu"})) == {"num_cpus": 1}


def test_image_tokens_count_towards_equal_tokens(tiny_folder, examples, tmp_path):
    """Pictures make a step dearer, so that the same tokens are fewer steps."""
    arms = {"words": {}, "pictures": {"settings": {"data": {"modality": "typographic"}}}}
    study = study_of_tiny.study(tiny_folder, examples, seeds=[0], arms=arms, budget={"equal": ["tokens"], "steps": 6})
    out = tmp_path / "out"
    found = {arm.name: arm for arm in run_study(study, out, launcher("sequential")).arms}
    words, pictures = found["words@steps"].cost, found["pictures@tokens"].cost
    tokens, _ = used_by(out / "arms/tiny/words@steps/seed-0")
    assert (words.image_tokens, words.tokens) == (0, tokens)
    assert pictures.image_tokens > 0
    assert pictures.tokens + pictures.image_tokens <= tokens
    assert pictures.steps < words.steps
    folder = out / "arms/tiny/pictures@tokens/seed-0"
    assert (
        used_by(folder)[0]
        == used_by(folder, at_steps=int(pictures.steps))[0]
        == pictures.tokens + pictures.image_tokens
    )
    assert pictures.ratios["tokens"] == pytest.approx((pictures.tokens + pictures.image_tokens) / tokens)
    assert found["pictures@tokens"].modality == "typographic"
