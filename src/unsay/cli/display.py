"""What a command shows while it runs and when it ends.

How a run shows its progress: a live display in a terminal, one plain line per stage everywhere else.

How a command that scores ends: the table, what was not asked, and where the report is.
"""

import time
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, ProgressColumn, SpinnerColumn, Task, TaskID, TextColumn
from rich.table import Column
from rich.text import Text

if TYPE_CHECKING:
    from unsay.scoring import Scores

WIDE = 80
"""Columns from which on there is room for a bar."""


class _Count(ProgressColumn):
    """`12/64` while a stage of known size runs, then nothing."""

    def render(self, task: Task) -> Text:
        if task.total is None or task.finished:
            return Text("")
        return Text(f"{int(task.completed)}/{int(task.total)}", style="progress.download")


class _Elapsed(ProgressColumn):
    """Minutes and seconds of the running stage; a finished one says itself what it took."""

    def render(self, task: Task) -> Text:
        if task.finished:
            return Text("")
        return Text(clock(task.elapsed or 0.0), style="progress.elapsed")


class LiveProgress:
    """One line per stage; the current one moves."""

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

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def start(self, title: str, total: int | None) -> None:
        """A stage begins."""
        # Lines beyond the screen's last would hide the one that moves.
        for done in self._bars.task_ids[: max(0, len(self._bars.task_ids) - self._bars.console.height + 4)]:
            self._bars.remove_task(done)
        self._task = self._bars.add_task(escape(title), total=total, note="")

    def update(self, done: int, total: int, note: str = "") -> None:
        """Work of the current stage is done up to here."""
        if self._task is not None:
            # A stage is finished when it says so, not when its last item is: judging or saving may follow.
            self._bars.update(self._task, completed=min(done, total - 0.5), total=total, note=escape(note))

    def finish(self, note: str) -> None:
        """The current stage is done, or was reused."""
        if self._task is not None:
            total = self._bars.tasks[self._task].total or 1
            self._bars.update(self._task, completed=total, total=total, note=escape(note))
            self._task = None


class PlainProgress:
    """One line per finished stage, and one at most every half minute of a long one: for logs and pipes."""

    EVERY = 30.0

    def __init__(self, console: Console) -> None:
        self._console = console
        self._title = ""
        self._told = 0.0

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        pass

    def start(self, title: str, total: int | None) -> None:
        """A stage begins."""
        self._title, self._told = title, time.monotonic()

    def update(self, done: int, total: int, note: str = "") -> None:
        """Work of the current stage is done up to here."""
        if time.monotonic() - self._told >= self.EVERY:
            self._told = time.monotonic()
            self._say(f"{self._title}: {done}/{total}")

    def finish(self, note: str) -> None:
        """The current stage is done, or was reused."""
        self._say(f"{self._title}: {note}")

    def _say(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)


def display(console: Console) -> LiveProgress | PlainProgress:
    """The display that suits where the output goes."""
    return LiveProgress(console) if console.is_terminal and not console.is_dumb_terminal else PlainProgress(console)


def clock(seconds: float) -> str:
    """`3:07`, or `1:02:03`."""
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def end(console: Console, scores: "Scores", out: Path) -> None:
    """Print it; a line is never wrapped, for a path that is broken in two cannot be copied."""
    from unsay.report import table
    from unsay.scoring import unasked

    lines = [*(caution.text for caution in unasked(scores.asked, scores.left_out)), f"\nReport: {out / 'report.html'}"]
    console.print()
    console.print(table(scores))
    for line in lines:
        console.print(line, markup=False, highlight=False, soft_wrap=True)
