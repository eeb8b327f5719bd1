"""How the runs of a study are put to work."""

import time
from collections.abc import Callable, Sequence
from typing import Protocol

from unsay.errors import UserError
from unsay.stages import Progress, Silent
from unsay.study.job import Bench, Job, Outcome, do

Told = Callable[[Job, Outcome], None]
"""Called when a run has ended."""


class Launcher(Protocol):
    """Does runs that do not need one another."""

    def run(self, jobs: Sequence[Job], told: Told) -> None:
        """Do all, in any order, and tell of each as it ends."""
        ...


class Sequential:
    """One after another in this process; the model and the judge are loaded once."""

    def __init__(self, progress: Progress | None = None) -> None:
        self._progress = progress or Silent()
        self._bench = Bench()

    def run(self, jobs: Sequence[Job], told: Told) -> None:
        """Do all in the order given."""
        for job in jobs:
            began = time.monotonic()
            self._progress.start(job.title, None)
            outcome = do(job, self._bench, _Within(self._progress))
            seconds = time.monotonic() - began
            self._progress.finish(f"{seconds:.0f} s" if outcome.state == "finished" else f"failed: {outcome.reason}")
            told(job, outcome)


class _Within:
    """The stages of a run as the notes of one line."""

    def __init__(self, outer: Progress) -> None:
        self._outer = outer
        self._title = ""

    def start(self, title: str, total: int | None) -> None:
        self._title = title
        self._outer.update(0, total or 1, title)

    def update(self, done: int, total: int, note: str = "") -> None:
        self._outer.update(done, total, self._title)

    def finish(self, note: str) -> None:
        pass


def launcher(name: str, progress: Progress | None = None) -> Launcher:
    """A launcher by its name.

    Raises:
        UserError: there is none of that name, or what it needs is not installed.
    """
    if name == "sequential":
        return Sequential(progress)
    if name == "ray":
        from unsay.study.ray_launcher import RayLauncher

        return RayLauncher(progress)
    raise UserError(f"--launcher: unknown '{name}'; known are sequential, ray")
