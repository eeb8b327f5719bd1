"""The list of runs and studies: every status, the headline, the cost, and the index page that links their reports."""

import json
from pathlib import Path

import pytest
from filelock import FileLock

from helpers import synthetic_study
from tests.reports.test_headline import AFTER, BEFORE, change, row, scores
from unsay.cli import display
from unsay.config import RunConfig, write_config
from unsay.errors import UserError
from unsay.files import write_json
from unsay.reports.headline import headline
from unsay.reports.live import LiveStage, LiveState, write_live
from unsay.reports.overview import MARK, RunLine, render_index, write_index
from unsay.scoring import Scores, write_scores
from unsay.studies.found_runs import find_runs
from unsay.studies.schema import FailedSeed, write_result

RESULT = scores([row("a", BEFORE, 60), row("a", AFTER, 5)], [change("a", -0.55)])


def run(folder: Path, result: Scores | None = None, state: LiveState | None = None, seconds: float = 60.0) -> Path:
    write_config(folder / "config.yaml", RunConfig())
    write_json(folder / "environment.json", {})
    write_json(folder / "stages/suites.json", {"name": "suites", "seconds": seconds})
    if state is not None:
        write_live(folder, state)
    if result is not None:
        write_scores(folder / "scores.json", result)
        (folder / "report.html").write_text("the report")
    return folder


def live(state: str = "running", **more: object) -> LiveState:
    stage = LiveStage(title="Unlearn, on text alone", began=2.0)
    return LiveState(state=state, began=1.0, written=3.0, stages=(stage,), done=3, total=4, remaining=30.0, **more)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    run(tmp_path / "done", RESULT)
    run(tmp_path / "deeper/below/done too", RESULT)
    run(tmp_path / "at work", None, live())
    run(tmp_path / "killed", None, live())
    run(tmp_path / "old", None, None)
    run(tmp_path / "failed", None, live("failed", problem="out of memory at step 3"))
    run(tmp_path / "stopped", None, live("interrupted"))
    study = tmp_path / "study"
    write_result(_there(study / "study.json"), synthetic_study.study())
    (study / "study.yaml").write_text("title: x\n")
    (study / "study.html").write_text("the study")
    run(study / "runs/arm/0", RESULT, seconds=90)
    (_there(tmp_path / "half a study/study.yaml")).write_text("title: x\n")
    run(tmp_path / "half a study/original", RESULT)
    (tmp_path / "nothing").mkdir()
    return tmp_path


def _there(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    return path


def test_every_run_and_study_with_its_status(folder: Path) -> None:
    with FileLock(folder / "at work/.lock"):
        lines = {line.name: line for line in find_runs(folder)}
    assert {name: line.status for name, line in lines.items()} == {
        "done": "finished",
        "deeper/below/done too": "finished",
        "at work": "running",
        "killed": "interrupted",
        "old": "interrupted",
        "failed": "failed",
        "stopped": "interrupted",
        "study": "finished",
        "half a study": "interrupted",
    }
    assert lines["done"].sentence == headline(RESULT).sentence
    assert (lines["done"].seconds, lines["study"].seconds) == (60, 90)
    assert (lines["at work"].sentence, lines["at work"].remaining) == ("Unlearn, on text alone, 75%.", 30)
    assert lines["killed"].sentence == "It ended at: Unlearn, on text alone, 75%."
    assert lines["killed"].remaining is None
    assert lines["failed"].sentence == "out of memory at step 3"
    assert lines["half a study"].sentence == "1 of its runs are finished."
    assert lines["study"].kind == "study"
    assert lines["study"].sentence.startswith(synthetic_study.study().title)
    assert (lines["done"].page, lines["old"].page, lines["study"].page) == (
        "done/report.html",
        None,
        "study/study.html",
    )
    assert not (folder / "done/.lock").exists(), "looking changes nothing"


def test_a_study_in_which_no_arm_could_be_trained_has_failed(tmp_path: Path) -> None:
    some = synthetic_study.study()
    failed = [
        arm
        if arm.arm == "original"
        else arm.model_copy(update={"state": "failed", "failed": (FailedSeed(seed=0, reason="no disk"),)})
        for arm in some.arms
    ]
    write_result(_there(tmp_path / "study/study.json"), some.model_copy(update={"arms": tuple(failed)}))
    (line,) = find_runs(tmp_path)
    assert line.status == "failed"
    assert "no disk" in line.sentence


def test_the_folder_may_be_a_run_itself_and_must_exist(folder: Path) -> None:
    (line,) = find_runs(folder / "done")
    assert (line.name, line.page) == ("done", "report.html")
    with pytest.raises(UserError, match="no such folder"):
        find_runs(folder / "nowhere")


def test_damaged_files_are_failures_of_their_run_alone(folder: Path) -> None:
    (folder / "done/scores.json").write_text("{")
    (folder / "killed/progress.json").write_text('{"state": "of a later version"}')
    (folder / "study/study.json").write_text("[]")
    lines = {line.name: line for line in find_runs(folder)}
    assert (lines["done"].status, lines["study"].status, lines["killed"].status) == ("failed", "failed", "interrupted")
    assert "scores.json" in lines["done"].sentence
    assert lines["deeper/below/done too"].status == "finished"


def test_the_index_links_reports_and_spares_other_pages(folder: Path) -> None:
    path = write_index(folder, find_runs(folder))
    text = path.read_text()
    assert 'href="deeper/below/done%20too/report.html"' in text
    assert headline(RESULT).sentence in text
    assert 'src="' not in text
    assert "<h1>7 runs and 2 studies: " in text
    assert write_index(folder, find_runs(folder)) == path, "its own page is replaced"
    path.write_text("my notes")
    with pytest.raises(UserError, match="was not written by"):
        write_index(folder, [])
    assert path.read_text() == "my notes"
    assert MARK in text


@pytest.mark.parametrize(
    ("kinds", "said"),
    [("", "0 runs."), ("r", "1 run: 1 finished."), ("s", "1 study: 1 finished."), ("rrs", "2 runs and 1 study: ")],
)
def test_the_index_counts_runs_and_studies_apart(kinds: str, said: str) -> None:
    lines = [
        RunLine(name=str(number), kind="run" if kind == "r" else "study", status="finished", sentence="", seconds=1.0,
                remaining=None, changed=0.0, page=None)
        for number, kind in enumerate(kinds)
    ]  # fmt: skip
    assert f"<h1>{said}" in render_index("x", lines)


def test_the_command_fits_sixty_columns(folder: Path, unsay, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(display.console, "width", 60)
    code, said, _ = unsay("runs", folder / "deeper")
    assert code == 0
    assert "below/done too  finished  1 min 00 s" in said
    assert max(map(len, said.splitlines()[:-1])) <= 60
    (folder / "deeper/index.html").unlink()
    assert "Index:" not in unsay("runs", folder / "deeper", "--no-page")[1]
    assert not (folder / "deeper/index.html").exists()
    assert json.dumps(headline(RESULT).sentence[:20])[1:-1] in said
