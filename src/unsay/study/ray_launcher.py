"""Runs as Ray tasks: side by side on the machines and GPUs of a Ray cluster that share the study's directory."""

import importlib
from collections.abc import Sequence
from typing import Any

from unsay.errors import UserError
from unsay.stages import Progress, Silent
from unsay.study.job import Bench, Job, Outcome, do
from unsay.study.launching import Told


class RayLauncher:
    """One task a run; a run on an accelerator takes a GPU of its own, any other one CPU.

    A cluster that runs already is used if `RAY_ADDRESS` names it, else one is started here. A task that dies with its
    process is a failed run, like any other.
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
        task = ray.remote(max_retries=0)(_task)
        waiting = {task.options(**resources(job)).remote(job): job for job in jobs}
        total = len(waiting)
        self._progress.start(f"{total} runs on Ray", total)
        while waiting:
            (ended, *_), _ = ray.wait(list(waiting), num_returns=1)
            job = waiting.pop(ended)
            try:
                outcome: Outcome = ray.get(ended)
            except ray.exceptions.RayError as error:
                outcome = Outcome(state="failed", reason=f"its process died ({type(error).__name__})")
            told(job, outcome)
            self._progress.update(total - len(waiting), total, job.title)
        self._progress.finish(f"{total} runs")


def resources(job: Job) -> dict[str, float]:
    """What a run takes of a cluster."""
    return {"num_gpus": 1, "num_cpus": 1} if job.settings.device.startswith("cuda") else {"num_cpus": 1}


def _task(job: Job) -> Outcome:
    return do(job, Bench())
