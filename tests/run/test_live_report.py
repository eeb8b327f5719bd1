"""The page of a run that lives: begun, followed, and left to the report, or with the reason why the run ended."""

import json
import threading
from pathlib import Path

import pytest

from unsay.errors import UserError
from unsay.preemption import PreemptedError
from unsay.reports import live as page
from unsay.reports.live import read_state
from unsay.run import live_report
from unsay.run.live_report import LiveReport
from unsay.stages import Silent


class Clock:
    """Seconds that pass when a test says so."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1_000.0
        monkeypatch.setattr(live_report.time, "time", lambda: self.now)
        monkeypatch.setattr(live_report.time, "monotonic", lambda: self.now)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    return Clock(monkeypatch)


class Told(Silent):
    def __init__(self) -> None:
        self.calls: list[tuple[object, ...]] = []

    def start(self, title: str, total: int | None) -> None:
        self.calls.append(("start", title, total))

    def update(self, done: int, total: int, note: str = "") -> None:
        self.calls.append(("update", done, total, note))

    def finish(self, note: str) -> None:
        self.calls.append(("finish", note))


def test_everything_is_handed_on_to_the_display(tmp_path: Path) -> None:
    told = Told()
    live = LiveReport(told, tmp_path, {})
    live.start("Unlearn", 7)
    live.update(3, 7, "loss")
    live.finish("12 s")
    assert told.calls == [("start", "Unlearn", 7), ("update", 3, 7, "loss"), ("finish", "12 s")]
    assert list(tmp_path.iterdir()) == [], "nothing is written of a run that does nothing"


def test_what_is_left_follows_from_the_pace_and_from_like_stages(tmp_path: Path, clock: Clock) -> None:
    live = LiveReport(Silent(), tmp_path, {"model": "tiny", "seed": "3"})
    with live.following([("Before", None), ("Unlearn", None), ("After", "Before")]):
        live.begin()
        live.start("Before", 100)
        live.update(40, 100)  # of an earlier run
        clock.now += 10
        live.update(60, 100, "XSTest")
        live._write()
        state = read_state(tmp_path)
        assert (state.state, state.done, state.total, state.note) == ("running", 60, 100, "XSTest")
        assert state.remaining == pytest.approx(20)  # 20 in 10 s, 40 are left
        assert state.share == pytest.approx(0.6)
        assert state.ahead == (("Unlearn", None), ("After", None))
        assert state.left is None, "nobody knows how long the training takes"
        clock.now += 20
        live.finish("30 s")
        live.start("Unlearn, on text alone", 4)
        live.update(0, 4)
        clock.now += 6
        live.update(3, 4)
        live._write()
        state = read_state(tmp_path)
        assert state.stages[0].seconds == pytest.approx(30)
        assert state.ahead == (("After", pytest.approx(30)),)
        assert state.left == pytest.approx(2 + 30)
        text = (tmp_path / "report.html").read_text()
        assert "Unlearn, on text alone: 75%" in text
        assert 'data-state="running"' in text
        live.close()
        (tmp_path / "report.html").write_text("the report")
    assert (tmp_path / "report.html").read_text() == "the report"
    assert not (tmp_path / page.STATE_FILE).exists()


@pytest.mark.parametrize(
    ("error", "state", "problem"),
    [
        (UserError("out of memory at step 3;\n what helps"), "failed", "out of memory at step 3; what helps"),
        (ValueError("[request 1]"), "failed", "an error of the program: ValueError"),
        (KeyboardInterrupt(), "interrupted", ""),
        (PreemptedError("stopped by SIGTERM"), "interrupted", ""),
    ],
)
def test_the_page_of_a_run_that_ended_says_why_and_reads_itself_no_more(
    tmp_path: Path, error: BaseException, state: str, problem: str
) -> None:
    live = LiveReport(Silent(), tmp_path, {})
    with pytest.raises(type(error)), live.following([("Unlearn", None)]):
        live.begin()
        live.start("Unlearn", 9)
        raise error
    assert (read_state(tmp_path).state, read_state(tmp_path).problem) == (state, problem)
    text = (tmp_path / "report.html").read_text()
    assert f'data-state="{state}"' in text
    assert problem in text
    assert "[request 1]" not in text
    assert 'http-equiv="refresh"' not in text


def test_a_run_that_reuses_everything_keeps_its_report(tmp_path: Path) -> None:
    (tmp_path / "report.html").write_text("the report")
    live = LiveReport(Silent(), tmp_path, {})
    with pytest.raises(UserError), live.following([]):
        live.start("Build the test suites", 3)
        live.finish("unchanged, reused")
        raise UserError("no disk")
    assert (tmp_path / "report.html").read_text() == "the report"
    assert not (tmp_path / page.STATE_FILE).exists()


def test_the_page_is_written_again_while_a_long_stage_says_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live_report, "EVERY", 0.01)
    written, enough = [], threading.Event()

    def note(_folder: Path, state: page.LiveState) -> None:
        written.append(state.written)
        if len(written) >= 4:
            enough.set()

    monkeypatch.setattr(live_report, "write_live", note)
    live = LiveReport(Silent(), tmp_path, {})
    with live.following([]):
        live.begin()
        assert enough.wait(10)
    count = len(written)
    assert written == sorted(written)
    live._ended.wait(0.05)
    assert len(written) == count, "it stops with the run"


def test_a_full_disk_costs_the_page_and_not_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise UserError("disk full")

    monkeypatch.setattr(live_report, "write_live", full)
    live = LiveReport(Silent(), tmp_path, {})
    with live.following([]):
        live.begin()
        live.close()


def test_curves_are_shown_once_this_run_trains(tmp_path: Path) -> None:
    (tmp_path / "train").mkdir()
    rows = [{"step": step, "loss": 1.0 / step} for step in (1, 2, 3)]
    (tmp_path / "train/metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows) + '{"step": 4, "lo')
    live = LiveReport(Silent(), tmp_path, {})
    with live.following([("Unlearn", None)]):
        live.begin()
        live.start("Evaluate the original model", 3)
        live._write()
        assert "Total loss" not in (tmp_path / "report.html").read_text()
        live.start("Unlearn, on text alone", 3)
        live._write()
        assert "Total loss" in (tmp_path / "report.html").read_text()
