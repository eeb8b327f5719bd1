"""Arms that go through robustness checks: what is run, what is compared, and that it survives being handed over."""

import json

import pytest
from pydantic import ValidationError

from helpers import study_of_tiny, tiny
from unsay.files import write_rows
from unsay.robustness.base import Check
from unsay.scoring.robustness import Subject, read_robustness
from unsay.studies import launcher, run_study
from unsay.studies.job import Job, job_key
from unsay.studies.known import read_runs
from unsay.studies.settings import StudySettings, read_study

U, R = Subject.UNLEARNED, Subject.REFERENCE
SUITE = "advbench"


def planted(bench):
    """Half of the requests come back on the model that has unlearned, all on the original."""
    groups = sorted(row.group for row in bench.suites[SUITE])
    for subject in Subject:
        values = {group: 1.0 if subject is R else float(place % 2) for place, group in enumerate(groups)}
        yield bench.number("begun", subject, values, setting={"tokens": 10}, suite=SUITE)


CHECK = Check(name="prefill", title="Planted", setting="", source="", version=1, run=planted, quick=True)


@pytest.fixture
def attacked(tiny_folder, tmp_path, monkeypatch, one_thread, unmeasured_judge):
    """The directory and the result of a study of one seed whose arms go through a planted check."""
    monkeypatch.setattr("unsay.robustness.battery.REQUESTS", 4)
    for place in ("studies.job", "robustness.battery"):
        monkeypatch.setattr(f"unsay.{place}.CHECKS", {"prefill": CHECK})
    write_rows(tmp_path / "examples.jsonl", tiny.examples(12))
    study = study_of_tiny.study(
        tiny_folder, tmp_path / "examples.jsonl", seeds=[0], robustness=["prefill"], budget={"equal": ["steps"]}
    )
    return tmp_path / "out", study, run_study(study, tmp_path / "out", launcher("sequential"), command="c")


def test_arms_are_attacked_compared_and_handed_over(attacked, tmp_path):
    out, study, result = attacked
    folders = sorted(path.parent for path in out.glob("arms/*/*/*/robustness.json"))
    assert len(folders) == 2
    assert not list(out.glob("originals/**/robustness.json"))
    assert read_robustness(folders[0]).check("prefill").quick

    assert result.measures["prefilled"] == "Attack success behind 10 tokens of harm"
    assert result.units["prefilled"] == "rate"
    assert "prefilled" not in result.higher_is_better
    found = {arm.arm: arm.measures["prefilled"] for arm in result.arms}
    assert {name: row.value for name, row in found.items()} == {"original": 1.0, "unlearn": 0.5, "sft": 0.5}
    assert {row.n for row in found.values()} == {4}
    pairs = {(pair.first, pair.second): pair for pair in result.comparisons if pair.measure == "prefilled"}
    assert {pair.difference for names, pair in pairs.items() if "original" in names} == {0.5}
    assert {pair.n for pair in pairs.values()} == {4}

    # From the rows without a text the same result is made again.
    rows = dict(read_runs(out / "runs.jsonl"))
    measured = {run_id.variant: keyed.run.withstood for run_id, keyed in rows.items()}
    assert measured["original"] == {}
    assert sorted(measured["sft@steps"][("prefilled", U)].values()) == [0.0, 0.0, 1.0, 1.0]
    again = run_study(study, tmp_path / "again", launcher("sequential"), command="c", known=rows.items())
    assert {arm.name: arm.measures for arm in again.arms} == {arm.name: arm.measures for arm in result.arms}
    page = (out / "study.html").read_text()
    assert "Attack success behind 10 tokens of harm" in page
    for prompt in (json.loads(line) for line in (folders[0] / f"robustness/suites/{SUITE}.jsonl").open()):
        assert prompt["request"] not in (out / "study.json").read_text()


def test_a_finished_study_is_not_attacked_again(attacked, monkeypatch):
    out, study, result = attacked

    def never(*_arguments, **_more):
        raise AssertionError("attacked again")

    monkeypatch.setattr("unsay.studies.job.run_battery", never)
    assert run_study(study, out, launcher("sequential"), command="c") == result


@pytest.fixture
def broken(monkeypatch):
    """Makes the planted check fail, or work again; the version of what failed stays."""

    def put(broken):
        def failing(_bench):
            raise MemoryError

        check = Check(**{**vars(CHECK), "run": failing if broken else planted, "version": 2})
        for place in ("studies.job", "robustness.battery"):
            monkeypatch.setattr(f"unsay.{place}.CHECKS", {"prefill": check})

    return put


def test_an_arm_whose_check_fails_has_failed_and_is_attacked_again(attacked, broken):
    """The check is the second version, so finished arms are opened again: their scores stay."""
    out, study, result = attacked
    broken(True)
    failed = run_study(study, out, launcher("sequential"), command="c")
    assert {row.reason.split(":")[0] for arm in failed.arms for row in arm.failed} == {"check prefill"}
    broken(False)
    again = run_study(study, out, launcher("sequential"), command="c")
    assert {arm.name: arm.measures for arm in again.arms} == {arm.name: arm.measures for arm in result.arms}


def test_where_the_references_check_fails_the_others_still_train(tiny_folder, tmp_path, attacked, broken):
    """They need what its training took, and no check."""
    _, study, _ = attacked
    broken(True)
    timed = study.model_copy(update={"budget": study.budget.model_copy(update={"equal": ("seconds",)})})
    result = run_study(timed, tmp_path / "timed", launcher("sequential"), command="c")
    assert {row.reason.split(":")[0] for arm in result.arms for row in arm.failed} == {"check prefill"}
    assert len(list((tmp_path / "timed").glob("arms/*/*/*/scores.json"))) == 2


def test_checks_and_their_versions_are_part_of_a_runs_key(tmp_path, monkeypatch):
    monkeypatch.setattr("unsay.studies.job.CHECKS", {"prefill": CHECK})
    plain = Job("t", tmp_path, tmp_path, {})
    before = job_key(plain)
    checked = Job("t", tmp_path, tmp_path, {}, robustness=("prefill",))
    assert job_key(checked) != before
    first = job_key(checked)
    newer = Check(**{**vars(CHECK), "version": 2})
    monkeypatch.setattr("unsay.studies.job.CHECKS", {"prefill": newer})
    assert job_key(checked) != first
    monkeypatch.setattr("unsay.studies.job.CHECKS", {"prefill": CHECK})
    assert job_key(checked) == first
    monkeypatch.setattr("unsay.studies.job.BATTERY", 0)
    assert job_key(checked) != first
    assert job_key(plain) == before


@pytest.mark.parametrize(
    ("checks", "says"),
    [(["context"], "'context' gives no number to compare; checks: relearn, prefill"), (["prefill"] * 2, "twice")],
)
def test_bad_checks_are_refused(checks, says):
    with pytest.raises(ValidationError, match=says):
        StudySettings.model_validate({"arms": {"a": {}}, "robustness": checks})


def test_the_packaged_study_judges_at_equal_seconds_by_the_checks_of_the_issue():
    study = read_study("robust")
    assert study.robustness == ("relearn", "prefill", "quantise")
    assert study.budget.equal == ("seconds",)
    assert study.seeds == (0, 1, 2)
    assert {"demo", "recovery", "long-refusals", "sharpness", "adversarial", "rep-select"} < set(study.arms)
