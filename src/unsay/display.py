"""The live display of a run in the terminal."""

from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    SpinnerColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
)
from rich.table import Column


class LiveProgress:
    """One line per stage, a moving bar for the current one."""

    def __init__(self, console: Console) -> None:
        self._bars = Progress(
            SpinnerColumn(finished_text="[green]✓[/green]"),
            TextColumn("{task.description}", table_column=Column(ratio=3, overflow="fold")),
            BarColumn(bar_width=12),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("[dim]{task.fields[note]}", table_column=Column(ratio=2, no_wrap=True, overflow="ellipsis")),
            console=console,
            expand=True,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> "LiveProgress":
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def start(self, title: str, total: int | None) -> None:
        """A stage begins."""
        self._task = self._bars.add_task(title, total=total, note="")

    def update(self, done: int, total: int, note: str = "") -> None:
        """Work of the current stage is done up to here."""
        if self._task is not None:
            self._bars.update(self._task, completed=done, total=total, note=note)

    def finish(self, note: str) -> None:
        """The current stage is done, or was reused."""
        if self._task is not None:
            total = self._bars.tasks[self._task].total or 1
            self._bars.update(self._task, completed=total, total=total, note=note)
