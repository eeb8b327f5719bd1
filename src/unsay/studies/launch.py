"""How the runs of a study are started: one after another, or on Ray.

How the runs of a study are put to work.

Runs as Ray tasks: side by side on the machines and GPUs of a Ray cluster that share the study's directory.
"""

import importlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from unsay.errors import UserError
from unsay.stages import Progress, Silent
from unsay.studies.job import Bench, Job, Outcome, do

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
        return RayLauncher(progress)
    raise UserError(f"--launcher: unknown '{name}'; known are sequential, ray")


class RayLauncher:
    """One task a run; a run on an accelerator takes a GPU of its own, any other one CPU.

    A cluster that `RAY_ADDRESS` names, or that runs on this machine, is used, else one is started here. A task that
    dies with its process is a failed run, like any other.
    """

    def __init__(self, progress: Progress | None = None) -> None:
        try:
            self._ray: Any = importlib.import_module("ray")
        except ImportError:
            raise UserError("--launcher ray: Ray is not installed; pip install 'unsay[ray]'") from None
        self._progress = progress or Silent()

    def run(self, jobs: Sequence[Job], told: Told) -> None:
        """Submit all, and tell of each as it ends."""
        ray = self._ray
        if not ray.is_initialized():
            ray.init(log_to_driver=False, include_dashboard=False, logging_level="error")
        # A process each: one that is used again keeps memory of the run before, which would count as this one's peak.
        task, here = ray.remote(max_retries=0, max_calls=1)(_task), Place.current()
        waiting = {task.options(**resources(job)).remote(job, here): job for job in jobs}
        total = len(waiting)
        self._progress.start(f"{total} runs on Ray", total)
        if any("num_gpus" in resources(job) for job in jobs) and not ray.cluster_resources().get("GPU"):
            self._progress.update(0, total, "waiting: the Ray cluster has no GPU yet; --device cpu needs none")
        while waiting:
            (ended, *_), _ = ray.wait(list(waiting), num_returns=1)
            job = waiting.pop(ended)
            try:
                outcome: Outcome = ray.get(ended)
            except ray.exceptions.RayError as error:
                cause = getattr(error, "cause", None)
                died = f"its process died ({type(error).__name__})"
                outcome = Outcome(state="failed", reason=str(cause) if isinstance(cause, UserError) else died)
            told(job, outcome)
            self._progress.update(total - len(waiting), total, job.title)
        self._progress.finish(f"{total} runs")


def resources(job: Job) -> dict[str, float]:
    """What a run takes of a cluster."""
    return {"num_gpus": 1, "num_cpus": 1} if job.settings.device.startswith("cuda") else {"num_cpus": 1}


@dataclass(frozen=True)
class Place:
    """What a path means: tasks of a cluster that ran before start elsewhere, with other variables.

    Attributes:
        folder: that relative paths start from.
        variables: of the environment, those of unsay.
    """

    folder: Path
    variables: dict[str, str]

    @classmethod
    def current(cls) -> "Place":
        """Of this process."""
        return cls(Path.cwd(), {name: value for name, value in os.environ.items() if name.startswith("UNSAY_")})

    def go(self) -> None:
        """Make it this process's."""
        os.chdir(self.folder)
        os.environ.update(self.variables)


def _task(job: Job, place: Place) -> Outcome:
    place.go()
    return do(job, Bench())
