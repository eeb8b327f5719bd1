"""A study's runs as one small file: the same tables from it alone, runs that join from elsewhere, and broken files."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from helpers import study_of_tiny, tiny
from unsay.config import RunConfig, write_config
from unsay.data.published import Published
from unsay.errors import UserError
from unsay.files import write_rows
from unsay.scoring import read_scores
from unsay.studies import launcher, read_result, read_runs, read_study, run_study
from unsay.studies.collect import collect
from unsay.studies.job import Job, job_key, resolve_precision
from unsay.studies.known import RunId, StudyRuns
from unsay.studies.settings import StudyDirectory
from unsay.studies.study_plan import adjusted, part, plan_study


class Told:
    """What was said about runs from elsewhere."""

    def __init__(self):
        self.notes = []

    def start(self, title, total):
        self.title = title

    def update(self, done, total, note=""):
        raise AssertionError("there is nothing to count")

    def finish(self, note):
        self.notes.append(f"{self.title}: {note}")


pytestmark = pytest.mark.usefixtures("unmeasured_judge")

MADE_FROM = {"truthfulqa/TruthfulQA.csv": "99d6ae7755e3b435"}
"""Hashes of the data files of committed studies that are not the pinned ones."""


@pytest.fixture
def no_model(monkeypatch):
    def never(*_args, **_more):
        raise AssertionError("a model was loaded")

    monkeypatch.setattr("unsay.run.directory.load", never)


def trained(out):
    return sorted(path.parents[1].relative_to(out).as_posix() for path in out.glob("arms/*/*/*/adapter/*.safetensors"))


def test_the_file_alone_gives_every_number_again(finished, tiny_folder, examples, tmp_path, no_model):
    out, result = finished
    told, again = Told(), tmp_path / "again"
    known = read_runs(out / "runs.jsonl")
    study = study_of_tiny.study(tiny_folder, examples)
    assert run_study(study, again, launcher("sequential"), command="unsay study", known=known, progress=told) == result
    assert not (again / "arms").exists()
    assert not (again / "originals").exists()
    assert told.notes == ["Runs from elsewhere: 2 taken over", "Runs from elsewhere: 4 taken over"]
    assert (again / "runs.jsonl").read_bytes() == (out / "runs.jsonl").read_bytes()


def test_arms_have_a_separation_where_attacks_and_borderline_requests_were_asked(finished, tiny_folder, examples):
    out, result = finished
    assert result.measures["separation_words"] == "Separation, words"
    assert result.units["separation_words"] == "AUROC"
    assert "separation_pictures" not in result.measures
    for row in result.arms:
        assert (row.measures["separation_words"].requests, row.measures["separation_words"].n) == (8, 16)
    original = result.find("original").measures["separation_words"]
    scored = read_scores(next((out / "originals").glob("*/scores.json"))).separation
    assert [row.value for row in scored if row.against == "borderline"] == [pytest.approx(original.value)]
    assert any(pair.measure == "separation_words" for pair in result.comparisons)
    _, known = read_runs(out / "runs.jsonl")[0]
    assert all(len(known.run.odds(row)) == row.n for row in known.run.scores.rows)
    early = replace(known.run, log_odds={})  # as files of earlier versions have it
    assert not any(early.odds(row) for row in early.scores.rows)


def test_a_seed_joins_those_that_were_done_elsewhere(finished, tiny_folder, examples, tmp_path):
    out, result = finished
    known = [(which, found) for which, found in read_runs(out / "runs.jsonl") if which.seed in (None, 0)]
    here = tmp_path / "here"
    joined = run_study(study_of_tiny.study(tiny_folder, examples), here, launcher("sequential"), known=known)
    assert trained(here) == [f"arms/tiny/{arm}/seed-1" for arm in ("sft@steps", "sft@tokens", "unlearn@steps")]
    assert [(arm.name, arm.seeds, arm.state) for arm in joined.arms] == [
        (arm.name, arm.seeds, arm.state) for arm in result.arms
    ]
    assert joined.find("sft@tokens").cost.tokens == result.find("sft@tokens").cost.tokens


def test_arms_of_several_jobs_join_to_the_whole_study(finished, tiny_folder, examples, tmp_path, no_model):
    """Each job hands over its own runs, and those of the reference that it was handed itself."""
    whole, joined = study_of_tiny.study(tiny_folder, examples), []
    for arm, arms in (("unlearn", {"unlearn"}), ("sft", {"unlearn", "sft"})):
        job, out = part(whole, [arm]), tmp_path / arm
        assert set(job.arms) == arms
        run_study(job, out, launcher("sequential"), known=read_runs(finished[0] / "runs.jsonl"))
        joined += read_runs(out / "runs.jsonl")
    assert (
        run_study(whole, tmp_path / "all", launcher("sequential"), command="unsay study", known=joined) == finished[1]
    )


def test_a_run_of_other_settings_is_done_here(finished, tiny_folder, examples, tmp_path):
    told, here = Told(), tmp_path / "here"
    study = study_of_tiny.study(
        tiny_folder, examples, seeds=[0], budget={}, arms={"unlearn": {}, "sft": {"settings": {"method": "npo"}}}
    )
    run_study(study, here, launcher("sequential"), known=read_runs(finished[0] / "runs.jsonl"), progress=told)
    assert trained(here) == ["arms/tiny/sft@steps/seed-0"]
    assert told.notes == [
        "Runs from elsewhere: 1 taken over",
        "Runs from elsewhere: 0 taken over, 1 not: other settings or data (sft@steps, seed 0)",
    ]


def test_the_run_that_fits_is_taken_whatever_else_is_handed_over(finished, tiny_folder, examples, tmp_path, no_model):
    known = read_runs(finished[0] / "runs.jsonl")
    others = [(which, found._replace(key="0" * 16)) for which, found in known]
    study = study_of_tiny.study(tiny_folder, examples)
    for name, files in (("first", known + others), ("last", others + known)):
        assert (
            run_study(study, tmp_path / name, launcher("sequential"), command="unsay study", known=files) == finished[1]
        )


def test_examples_that_were_edited_are_other_data(finished, tiny_folder, tmp_path):
    out, rows = finished[0], tmp_path / "examples.jsonl"
    write_rows(rows, tiny.examples(12))
    key = job_key(Job("t", tmp_path, None, {"data": {"examples": str(rows)}}))
    assert job_key(Job("t", tmp_path, None, {"data": {"examples": str(rows)}})) == key
    write_rows(rows, tiny.examples(11))
    assert job_key(Job("t", tmp_path, None, {"data": {"examples": str(rows)}})) != key
    assert len(read_runs(out / "runs.jsonl")) == 7


def with_versions(runs, **changed):
    return [(which, found._replace(run=replace(found.run, environment=found.run.environment | changed)))
            for which, found in runs]  # fmt: skip


def test_runs_of_other_versions_are_refused_before_anything_is_run(finished, tiny_folder, examples, tmp_path, no_model):
    known = read_runs(finished[0] / "runs.jsonl")
    old = with_versions(known, unsay="0.0.9")
    study = study_of_tiny.study(tiny_folder, examples)
    assert run_study(study, tmp_path / "all", launcher("sequential"), known=old).seeds == (0, 1)  # nothing is missing
    with pytest.raises(UserError, match=r"runs\.jsonl:\d+: made with unsay 0\.0\.9, but .*:\d+ it is unsay 0\.1\.0"):
        run_study(study, tmp_path / "mixed", launcher("sequential"), known=known[:3] + old[3:])
    study = study_of_tiny.study(tiny_folder, examples, seeds=[0, 1, 2])
    with pytest.raises(UserError, match=r"made with unsay 0\.0\.9, but here it is unsay 0\.1\.0.*install the same"):
        run_study(study, tmp_path / "more", launcher("sequential"), known=old)


@pytest.mark.parametrize(("asked", "seeds"), [("fastest", [0, 2]), ("bfloat16", [0])])
def test_fastest_is_the_precision_of_the_runs_that_were_handed_over(
    finished, tiny_folder, examples, tmp_path, monkeypatch, asked, seeds
):
    """A machine that is fast in bfloat16 goes on in float32, as one seed cannot be compared with another else."""
    monkeypatch.setattr("unsay.models.precision._fastest", lambda kind: "bfloat16")
    told, known = Told(), read_runs(finished[0] / "runs.jsonl")
    base = {**study_of_tiny.study(tiny_folder, examples).base, "model_settings": {"dtype": asked}}
    study = study_of_tiny.study(tiny_folder, examples, base=base, seeds=seeds, budget={})
    run_study(study, tmp_path / "out", launcher("sequential"), known=known, progress=told)
    notes = [note.split(": ", 1)[1] for note in told.notes]
    made = {path.read_text().split("dtype: ")[1].split()[0] for path in (tmp_path / "out").rglob("config.yaml")}
    if asked == "fastest":
        assert notes == ["1 taken over", "1 taken over"]
        assert [run.rsplit("-", 1)[1] for run in trained(tmp_path / "out")] == ["2", "2"]
        assert made == {"float32"}
    else:
        assert notes == [
            "0 taken over, 1 not: other settings or data (unlearn@steps, seed 0)",
            "0 taken over, 1 not: other settings or data (sft@steps, seed 0)",
        ]
        assert made == {"bfloat16"}


def test_what_fastest_came_to_stays_when_a_study_goes_on(
    finished, tiny_folder, examples, tmp_path, monkeypatch, no_model
):
    """Another process, perhaps on a busy machine, would time it otherwise."""
    out = shutil.copytree(finished[0], tmp_path / "out")
    monkeypatch.setattr("unsay.models.precision._fastest", lambda kind: "bfloat16")
    base = study_of_tiny.study(tiny_folder, examples).base
    study = study_of_tiny.study(tiny_folder, examples, base={**base, "model_settings": {"dtype": "fastest"}})
    assert run_study(study, out, launcher("sequential"), command="unsay study") == finished[1]


def test_an_arm_that_loads_its_model_otherwise_keeps_the_precision_that_it_began_in(tmp_path, monkeypatch):
    monkeypatch.setattr("unsay.models.precision._fastest", lambda kind: "bfloat16")
    config = RunConfig(model_settings={"dtype": "fastest", "attention": "eager"})
    write_config(tmp_path / "original/config.yaml", RunConfig())
    folders = tmp_path / "original", tmp_path / "arm"
    assert resolve_precision(config, folders, None).model_settings.dtype == "bfloat16"
    assert resolve_precision(config, folders, "float32").model_settings.dtype == "float32"
    write_config(tmp_path / "arm/config.yaml", RunConfig(model_settings={"attention": "eager"}))
    assert resolve_precision(config, folders, "bfloat16").model_settings.dtype == "float32"


def test_what_is_no_list_of_runs_is_refused(tmp_path):
    (tmp_path / "empty.jsonl").touch()
    with pytest.raises(UserError, match=r"empty\.jsonl: holds no run"):
        read_runs(tmp_path / "empty.jsonl")
    for other in (tmp_path, tmp_path / "study.json"):
        with pytest.raises(UserError, match=r"expected a study's runs\.jsonl, such as .*/runs\.jsonl"):
            read_runs(other)


def test_runs_of_another_study_are_refused(finished, tiny_folder, examples, tmp_path, no_model):
    study = study_of_tiny.study(tiny_folder, examples, arms={"other": {}})
    known = [(which, found) for which, found in read_runs(finished[0] / "runs.jsonl") if which.seed is not None]
    with pytest.raises(UserError, match=r"runs\.jsonl:\d+: neither this run nor any other .* belongs to this study"):
        run_study(study, tmp_path / "out", launcher("sequential"), known=known)


def test_seconds_of_other_hardware_are_no_budget(finished, tiny_folder, examples, tmp_path):
    """Of the seed that is begun elsewhere the timed arm fails with its reason; the rest of the study stands."""
    known = [run for run in with_versions(read_runs(finished[0] / "runs.jsonl"), cores=999) if run[0].seed != 1]
    study = study_of_tiny.study(tiny_folder, examples, seeds=[0], budget={"equal": ["steps", "seconds"]})
    found = {arm.name: arm for arm in run_study(study, tmp_path / "out", launcher("sequential"), known=known).arms}
    assert {name: arm.state for name, arm in found.items()} == {
        "original": "finished", "unlearn@steps": "finished", "sft@steps": "finished", "sft@seconds": "failed",
    }  # fmt: skip
    assert "measured on other hardware" in found["sft@seconds"].failed[0].reason


def test_own_examples_join_wherever_they_lie(finished, tiny_folder, examples, tmp_path, no_model):
    """A reviewer has the same files in other folders."""
    moved = tmp_path / "elsewhere" / examples.name
    shutil.copytree(examples.parent, moved.parent)
    model = shutil.copytree(tiny_folder, tmp_path / "models" / tiny_folder.name)
    study, known = study_of_tiny.study(model, moved), read_runs(finished[0] / "runs.jsonl")
    assert run_study(study, tmp_path / "out", launcher("sequential"), command="unsay study", known=known) == finished[1]


def test_what_was_done_here_is_not_replaced(finished, tiny_folder, examples):
    out, result = finished
    changed = [
        (which, found._replace(run=replace(found.run, steps=found.run.steps[:1])))
        for which, found in read_runs(out / "runs.jsonl")
    ]
    told, study = Told(), study_of_tiny.study(tiny_folder, examples)
    known = [run for run in changed if run[0].variant != "original"]  # all of it would be taken as it is
    again = run_study(study, out, launcher("sequential"), command="unsay study", known=known, progress=told)
    assert again.find("unlearn@steps").cost.steps == result.find("unlearn@steps").cost.steps == 3
    assert told.notes == ["Runs from elsewhere: 0 taken over"] * 2


def study_of(path, seeds, command):
    """The packaged study of a committed file, with the options of the command that made it."""
    words = command.split()
    options = {name: words[words.index(f"--{name}") + 1] for name in ("model", "device") if f"--{name}" in words}
    study = read_study(path.name.removesuffix(".runs.jsonl"))
    if "--arms" in words:
        study = part(study, words[words.index("--arms") + 1].split(","))
    return adjusted(study, seeds=",".join(map(str, seeds)), quick="--quick" in words, **options)


def test_a_committed_study_is_that_of_its_command():
    command = "unsay study paper-exact --quick --model pocket --seeds 0,1,2 --device cpu"
    plan = plan_study(study_of(Path("paper-exact.runs.jsonl"), (0, 1, 2), command))
    assert [(variant.model, variant.arm) for variant in plan.variants] == [
        ("pocket", "textual-unlearning"), ("pocket", "text-sft"),
    ]  # fmt: skip
    assert {plan.config(variant, 2).device for variant in plan.variants} == {"cpu"}
    assert plan.study.seeds == (0, 1, 2)


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[2] / "docs/results").rglob("*.runs.jsonl")), ids=str)
def test_the_committed_numbers_are_those_of_the_committed_runs(path, tmp_path):
    """What the pages say follows from their verdicts; a study whose arms were changed needs new results."""
    committed = read_result(path.with_name(path.name.replace(".runs.jsonl", ".json")))
    study = study_of(path, committed.seeds, committed.command)
    runs = StudyRuns(StudyDirectory(tmp_path))
    runs.known = dict(read_runs(path))
    assert collect(plan_study(study), runs, command=committed.command) == committed


def test_a_study_directory_of_an_earlier_version_is_refused(finished, tiny_folder, examples, tmp_path, no_model):
    """Once, and not as the failure of every arm; nothing in it is touched."""
    out = shutil.copytree(finished[0], tmp_path / "out")
    for path in out.rglob("environment.json"):
        path.write_text(json.dumps({name: v for name, v in json.loads(path.read_text()).items() if name != "format"}))
    before = {path: path.read_bytes() for path in out.rglob("arm.json")}
    with pytest.raises(
        UserError, match=r"originals/tiny: made by an earlier version.*--known .*/out/runs\.jsonl takes over"
    ):
        run_study(study_of_tiny.study(tiny_folder, examples), out, launcher("sequential"))
    assert {path: path.read_bytes() for path in out.rglob("arm.json")} == before


@pytest.mark.parametrize("path", sorted((Path(__file__).parents[2] / "docs/results").glob("*.runs.jsonl")), ids=str)
def test_the_committed_runs_have_the_keys_of_their_study(path, tmp_path, monkeypatch):
    """So `--known` takes them over; where a suite's or a method's version was raised, they must be made again."""
    known = dict(read_runs(path))
    seeds = sorted({run_id.seed for run_id in known if run_id.seed is not None})
    committed = read_result(path.with_name(path.name.replace(".runs.jsonl", ".json")))
    plan = plan_study(study_of(path, seeds, committed.command))
    model = committed.models[0]
    original = known[RunId.original(model)]
    monkeypatch.setattr(Published, "fingerprint", property(lambda file: MADE_FROM.get(file.path, file.sha256)))
    for variant in plan.variants:
        keyed = known[RunId.trained(model, variant.name, 0)]
        limit = {"steps": None, "tokens": 1, "seconds": 1}[variant.rule]
        if limit is None:
            configs = [in_precision(plan.config(variant, 0), dtype) for dtype in ("float32", "bfloat16")]
            jobs = [Job("t", tmp_path, tmp_path, config, robustness=plan.study.robustness) for config in configs]
            assert keyed.key in {job_key(job, original.evaluated) for job in jobs}, variant.name


def in_precision(config, dtype):
    """Its settings as a run keeps them."""
    values = config.model_dump(mode="json", exclude={"train": {"seed"}})
    return values | {"model_settings": values["model_settings"] | {"dtype": dtype}}


def edited(lines, change):
    """The file's lines after `change` was made to the first trained run."""
    rows = [json.loads(line) for line in lines]
    change(next(row["run"] for row in rows if row["run"] and row["run"]["variant"] != "original"))
    return "\n".join(json.dumps(row) for row in rows)


def relabel(run):
    suite = next(iter(run["labels"]))
    old = run["labels"][suite]
    run["labels"][suite] = ("r" if old[0] != "r" else "s") + old[1:]


@pytest.mark.parametrize(
    ("change", "needle"),
    [
        (lambda run: run["labels"].update(advbench="x" * 4), "do not match the items"),
        (lambda run: run["labels"].update(advbench="s"), "do not match the items"),
        (lambda run: run["values"].update({"answer-loss": [1.0]}), "do not match the items"),
        (lambda run: run["suites"].update(advbench="none"), "do not match the items"),
        (lambda run: run["labels"].pop("advbench"), "do not match the items"),
        (lambda run: run["scores"].update(cost=[]), "one cost"),
        (relabel, "not the verdicts that its scores count"),
        (lambda run: run.pop("key"), "key"),
    ],
)
def test_a_broken_file_is_named_with_its_line(finished, tmp_path, change, needle):
    lines = (finished[0] / "runs.jsonl").read_text().splitlines()
    (tmp_path / "runs.jsonl").write_text(edited(lines, change))
    with pytest.raises(UserError, match=rf"runs\.jsonl:\d+.*{needle}"):
        read_runs(tmp_path / "runs.jsonl")


def test_items_that_were_edited_are_found(finished, tmp_path):
    lines = (finished[0] / "runs.jsonl").read_text().splitlines()
    first = json.loads(lines[0])
    first["suite"]["items"][0]["group"] = "another"
    (tmp_path / "runs.jsonl").write_text("\n".join([json.dumps(first), *lines[1:]]))
    with pytest.raises(UserError, match=r"runs\.jsonl:1: .*do not have this key"):
        read_runs(tmp_path / "runs.jsonl")


def test_no_path_of_this_machine_is_written(finished, tiny_folder, examples):
    text = (finished[0] / "runs.jsonl").read_text()
    assert not any(str(path) in text for path in (tiny_folder, examples, Path.cwd(), finished[0]))


@given(st.text(max_size=40) | st.dictionaries(st.sampled_from(["run", "suite", "x"]), st.none() | st.just({})))
def test_any_other_line_is_a_clear_error(tmp_path_factory, line):
    path = tmp_path_factory.mktemp("broken") / "runs.jsonl"
    path.write_text((line if isinstance(line, str) else json.dumps(line)) + "\n", encoding="utf-8")
    try:
        assert read_runs(path) == []
    except UserError as error:
        assert "runs.jsonl" in str(error)
