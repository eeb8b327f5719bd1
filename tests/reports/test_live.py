"""The live page in a browser: it reads itself again while the run lives, and says so when it does not."""

import time
from pathlib import Path

import pytest

from helpers.playground_page import browser  # noqa: F401  (a fixture)
from unsay.reports.live import SILENCE, LiveStage, LiveState, render_live, write_live


def state(**more: object) -> LiveState:
    now = time.time()
    stage = LiveStage(title="Unlearn, on text alone", began=now - 5)
    values = {"state": "running", "began": now - 9, "written": now, "stages": (stage,), "done": 1, "total": 4}
    return LiveState(**(values | more))


@pytest.fixture
def page(browser):  # noqa: F811
    opened = browser.new_page()
    opened.set_default_timeout(20_000)
    yield opened
    opened.close()


def test_it_reads_itself_again_until_the_run_is_over(page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("unsay.reports.live.EVERY", 0.2)
    write_live(tmp_path, state())
    page.goto((tmp_path / "report.html").as_uri())
    assert page.locator("h1").text_content() == "Unlearn, on text alone: 25%"
    write_live(tmp_path, state(done=2))
    page.locator("h1", has_text="50%").wait_for()
    write_live(tmp_path, state(state="failed", problem="no disk"))
    page.locator("h1", has_text="This run has failed.").wait_for()
    assert page.locator(".cautions", has_text="no disk").is_visible()
    write_live(tmp_path, state(done=3))
    page.wait_for_timeout(600)
    assert page.locator("h1").text_content() == "This run has failed.", "a page that has ended stays as it is"


def test_a_run_that_was_killed_is_said_to_be_silent(page, tmp_path: Path) -> None:
    write_live(tmp_path, state(written=time.time() - 5 * SILENCE))
    page.goto((tmp_path / "report.html").as_uri())
    page.locator("h1", has_text="Nothing is heard of this run.").wait_for()
    assert page.locator(".bar-of").count() == 0
    assert "the same command again continues" in page.locator("#news").text_content()


def test_a_version_that_stays_the_same_is_noticed_whatever_the_clocks_say(
    page, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("unsay.reports.live.EVERY", 0.1)
    monkeypatch.setattr("unsay.reports.live.SILENCE", 1.0)
    write_live(tmp_path, state(written=time.time() + 3600))
    page.goto((tmp_path / "report.html").as_uri())
    page.locator("h1", has_text="Nothing is heard of this run.").wait_for()


def test_what_it_shows_is_escaped_and_it_loads_nothing(tmp_path: Path) -> None:
    text = render_live("<b>", state(note="<i>", problem="<script>"), tmp_path / "none")
    assert "<b>" not in text.replace("<b>1</b>", "")
    assert "&lt;i&gt;" in text
    assert "<script>alert" not in text
    assert 'src="' not in text
