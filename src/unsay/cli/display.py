"""What a command prints: progress while it runs, the scores when it ends, notices and errors."""

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TaskID, TextColumn
from rich.table import Column
from rich.text import Text

if TYPE_CHECKING:
    from unsay.scoring import Scores

WIDE = 80
"""Columns that a progress bar needs."""

RANK = int(os.environ.get("RANK", "0")) if "MASTER_ADDR" in os.environ else 0
"""Number of this process among those that `accelerate launch` or `torchrun` started; only process 0 prints."""

console = Console(quiet=RANK > 0)


def say(line: str, target: Console = console) -> None:
    """Print a line as it is: no markup, and not wrapped, so that a path in it can be copied."""
    target.print(line, markup=False, highlight=False, soft_wrap=True)


def complain(line: str) -> None:
    """Print an error on stderr, headed by the program's name and the number of any process but the first."""
    program = f"unsay, process {RANK}" if RANK else "unsay"
    Console(stderr=True).print(f"{program}: {line}", style="red", markup=False, highlight=False, soft_wrap=True)


def show_scores(scores: "Scores", out: Path) -> None:
    """Print what the original model gave in to, the table of scores, what was not evaluated, and the report's path."""
    from unsay.reports import red_team_table, table
    from unsay.scoring import coverage_cautions
    from unsay.scoring.red_team import read_red_team

    console.print()
    if (red_team := read_red_team(out)) is not None and len(red_team.ways) > 1:
        console.print(red_team_table(red_team))
        console.print()
    console.print(table(scores))
    for caution in coverage_cautions(scores.asked, scores.left_out):
        say(caution.text)
    say(f"\nReport: {out / 'report.html'}")


def display(console: Console = console) -> "LiveProgress | PlainProgress":
    """Progress on this console: live in a terminal, one plain line per stage everywhere else."""
    return LiveProgress(console) if console.is_terminal and not console.is_dumb_terminal else PlainProgress(console)


def clock(seconds: float) -> str:
    """`3:07`, or `1:02:03`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


class _Count(ProgressColumn):
    """`12/64` while a stage of known size runs, then nothing."""

    def render(self, task: Task) -> Text:
        if task.total is None or task.finished:
            return Text("")
        return Text(f"{int(task.completed)}/{int(task.total)}", style="progress.download")


class _Elapsed(ProgressColumn):
    """Minutes and seconds of the running stage; a finished stage states its time in its note."""

    def render(self, task: Task) -> Text:
        if task.finished:
            return Text("")
        return Text(clock(task.elapsed or 0.0), style="progress.elapsed")


class LiveProgress:
    """One line per stage; the line of the current one is updated in place."""

    def __init__(self, console: Console) -> None:
        bar = [BarColumn(bar_width=12)] if console.width >= WIDE else []
        self._bars = Progress(
            SpinnerColumn(finished_text="[green]✓[/green]"),
            TextColumn("{task.description}", table_column=Column(ratio=3, no_wrap=True, overflow="ellipsis")),
            *bar,
            _Count(table_column=Column(justify="right", no_wrap=True)),
            _Elapsed(table_column=Column(justify="right", no_wrap=True)),
            TextColumn("[dim]{task.fields[note]}", table_column=Column(ratio=2, no_wrap=True, overflow="ellipsis")),
            console=console,
            expand=True,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._bars.stop()

    def start(self, title: str, total: int | None) -> None:
        """Begin a stage."""
        # Drop old lines that no longer fit the screen: they would push the current one out of sight.
        for done in self._bars.task_ids[: max(0, len(self._bars.task_ids) - self._bars.console.height + 4)]:
            self._bars.remove_task(done)
        self._task = self._bars.add_task(escape(title), total=total, note="")

    def update(self, done: int, total: int, note: str = "") -> None:
        """Show how much of the current stage is done."""
        if self._task is not None:
            # Never full before `finish`: judging or saving may follow the last item.
            self._bars.update(self._task, completed=min(done, total - 0.5), total=total, note=escape(note))

    def finish(self, note: str) -> None:
        """End the current stage; `note` is its time, or that it was reused."""
        if self._task is not None:
            total = self._bars.tasks[self._task].total or 1
            self._bars.update(self._task, completed=total, total=total, note=escape(note))
            self._task = None


class PlainProgress:
    """For logs and pipes: one line per finished stage, and one every half minute of a long stage."""

    EVERY = 30.0

    def __init__(self, console: Console) -> None:
        self._console = console
        self._title = ""
        self._printed = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        pass

    def start(self, title: str, total: int | None) -> None:
        """Begin a stage."""
        self._title, self._printed = title, time.monotonic()

    def update(self, done: int, total: int, note: str = "") -> None:
        """Show how much of the current stage is done."""
        if time.monotonic() - self._printed >= self.EVERY:
            self._printed = time.monotonic()
            say(f"{self._title}: {done}/{total}", self._console)

    def finish(self, note: str) -> None:
        """End the current stage; `note` is its time, or that it was reused."""
        say(f"{self._title}: {note}", self._console)
