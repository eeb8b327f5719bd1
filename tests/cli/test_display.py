"""What a run shows: a moving display in a terminal of any width, plain lines everywhere else."""

import io
import re

import pytest
from rich.console import Console

from unsay.cli.display import LiveProgress, PlainProgress, clock, display

TITLES = ["Build the test suites", "Collect what the model itself would say", "Unlearn, on text alone [odd]"]


def console(width=80, terminal=True):
    return Console(file=io.StringIO(), width=width, force_terminal=terminal, color_system=None, legacy_windows=False)


def act(progress):
    with progress:
        for title in TITLES:
            progress.start(title, 4)
            progress.update(4, 4, "AdvBench held out, as FigStep lists [x]")
            progress.finish("unchanged, reused")


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_a_terminal_of_any_width_shows_one_line_per_stage(width):
    shown = console(width)
    live = display(shown)
    assert isinstance(live, LiveProgress)
    act(live)
    frames = re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "\n", shown.file.getvalue()).splitlines()
    assert max(map(len, frames)) <= width
    last = [line for line in frames if line.strip()][-len(TITLES) :]
    for line, title in zip(last, TITLES, strict=True):
        assert "✓" in line
        assert title[:10] in line
        assert "unchan" in line
        assert "4/4" not in line


def test_a_stage_is_not_done_before_it_says_so():
    shown = console()
    with LiveProgress(shown) as live:
        live.start("Judge", 3)
        live.update(3, 3)
        assert not live._bars.finished
        live.finish("2 s")
        assert live._bars.finished


def test_a_pipe_gets_one_plain_line_per_stage():
    shown = console(20, terminal=False)
    plain = display(shown)
    assert isinstance(plain, PlainProgress)
    act(plain)
    assert shown.file.getvalue() == "".join(f"{title}: unchanged, reused\n" for title in TITLES)


def test_a_long_stage_speaks_up_in_a_log_now_and_then(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    shown = console(terminal=False)
    plain = PlainProgress(shown)
    plain.start("Judge", 100)
    for done in range(1, 101):
        now[0] += 1.0
        plain.update(done, 100, "note")
    plain.finish("100 s")
    assert shown.file.getvalue().splitlines() == ["Judge: 30/100", "Judge: 60/100", "Judge: 90/100", "Judge: 100 s"]


def test_an_unknown_total_and_an_early_end_do_no_harm():
    for shown in (console(), console(terminal=False)):
        with display(shown) as progress:
            progress.update(1, 2)
            progress.start("Collect", None)
            progress.finish("1 s")
            progress.start("Interrupted", 5)


@pytest.mark.parametrize(("seconds", "said"), [(0, "0:00"), (59.9, "0:59"), (61, "1:01"), (3723, "1:02:03")])
def test_clock(seconds, said):
    assert clock(seconds) == said
