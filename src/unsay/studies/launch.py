"""How the runs of a study are started: one after another in this process, or as tasks on Ray."""

import importlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from unsay.errors import UserError
from unsay.stages import Progress, Silent
from unsay.studies.job import Job, JobStatus, Worker

JobEnded = Callable[[Job, JobStatus], None]
"""Called when a run has ended."""


class Launcher(Protocol):
    """Carries out runs that do not depend on one another."""

    def run(self, jobs: Sequence[Job], ended: JobEnded) -> None:
        """Do all jobs, in any order, and call `ended` after each."""
        ...


class Sequential:
    """One after another in this process; the model and the judge are loaded once."""

    def __init__(self, progress: Progress | None = None) -> None:
        self._progress = progress or Silent()
        self._worker = Worker()

    def run(self, jobs: Sequence[Job], ended: JobEnded) -> None:
        """Do all in the order given."""
        for job in jobs:
            began = time.monotonic()
            self._progress.start(job.title, None)
            status = self._worker.do(job, _StagesAsNotes(self._progress))
            seconds = time.monotonic() - began
            self._progress.finish(f"{seconds:.0f} s" if status.state == "finished" else f"failed: {status.reason}")
            ended(job, status)


class _StagesAsNotes:
    """Shows the stages of a run as notes of one progress line."""

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
    """A launcher by its name; a `UserError` if it is unknown or Ray is not installed."""
    if name == "sequential":
        return Sequential(progress)
    if name == "ray":
        return RayLauncher(progress)
    raise UserError(f"--launcher: unknown '{name}'; known are sequential, ray")


class RayLauncher:
    """One Ray task for each run, side by side on machines that share the study's directory.

    A run on an accelerator takes a GPU, any other run one CPU. The cluster is the one that `RAY_ADDRESS` names, or that
    runs on this machine; else one is started here. A task whose process dies is a failed run like any other.
    """

    def __init__(self, progress: Progress | None = None) -> None:
        try:
            self._ray: Any = importlib.import_module("ray")
        except ImportError:
            raise UserError("--launcher ray: Ray is not installed; pip install 'unsay[ray]'") from None
        self._progress = progress or Silent()

    def run(self, jobs: Sequence[Job], ended: JobEnded) -> None:
        """Submit all jobs, and call `ended` after each."""
        ray = self._ray
        if not ray.is_initialized():
            ray.init(log_to_driver=False, include_dashboard=False, logging_level="error")
        # A process for each task: a reused one keeps memory of the run before, which would count in this one's peak.
        task, context = ray.remote(max_retries=0, max_calls=1)(_task), TaskContext.current()
        waiting = {task.options(**resources(job)).remote(job, context): job for job in jobs}
        total = len(waiting)
        self._progress.start(f"{total} runs on Ray", total)
        if any("num_gpus" in resources(job) for job in jobs) and not ray.cluster_resources().get("GPU"):
            self._progress.update(0, total, "waiting: the Ray cluster has no GPU yet; --device cpu needs none")
        while waiting:
            (done, *_), _ = ray.wait(list(waiting), num_returns=1)
            job = waiting.pop(done)
            try:
                status: JobStatus = ray.get(done)
            except ray.exceptions.RayError as error:
                cause = getattr(error, "cause", None)
                died = f"its process died ({type(error).__name__})"
                status = JobStatus(state="failed", reason=str(cause) if isinstance(cause, UserError) else died)
            ended(job, status)
            self._progress.update(total - len(waiting), total, job.title)
        self._progress.finish(f"{total} runs")


def resources(job: Job) -> dict[str, float]:
    """The resources that a run takes of a cluster, as Ray options."""
    return {"num_gpus": 1, "num_cpus": 1} if job.settings.device.startswith("cuda") else {"num_cpus": 1}


@dataclass(frozen=True)
class TaskContext:
    """What a task needs of the process that submits it; a running cluster starts tasks in its own context."""

    folder: Path  # the working directory, which relative paths start from
    variables: dict[str, str]  # environment variables of unsay

    @classmethod
    def current(cls) -> "TaskContext":
        """The context of this process."""
        return cls(Path.cwd(), {name: value for name, value in os.environ.items() if name.startswith("UNSAY_")})

    def apply(self) -> None:
        """Make it the context of this process."""
        os.chdir(self.folder)
        os.environ.update(self.variables)


def _task(job: Job, context: TaskContext) -> JobStatus:
    context.apply()
    return Worker().do(job)
