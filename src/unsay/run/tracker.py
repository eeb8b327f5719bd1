"""A tracker follows the training elsewhere: TensorBoard, Weights & Biases, Trackio or MLflow, through accelerate's own.

It gets the numbers of every step and the settings, and never a prompt or an answer. What it does decides nothing about
the adapter; where it breaks, the training goes on without it.
"""

from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from unsay.config import RunConfig
from unsay.errors import UserError
from unsay.reports.html import flatten, redact

PROJECT = "unsay"
"""The project, or experiment, to which runs are added."""


def check_tracker(name: str | None) -> None:
    """A `UserError` that names the extra, if the tracker's package is not installed."""
    if name is not None and find_spec(name) is None:
        raise UserError(f"train.tracker: {name} is not installed: pip install 'unsay[{name}]'")


class StepTracker:
    """Hands the numbers of every step to the tracker that the settings name; to none by default."""

    def __init__(self, config: RunConfig, run_dir: Path) -> None:
        """Begin tracking under the name of the run directory; TensorBoard's files go to `train/tensorboard`.

        Raises:
            UserError: the tracker is not installed, or cannot begin, as without a login.
        """
        self.trouble = ""  # why the tracker was given up; empty while it works
        self._tracker: Any = None
        name = config.train.tracker
        if name is None:
            return
        check_tracker(name)
        try:
            self._tracker = _begin(name, run_dir)
            self._tracker.store_init_configuration(_settings(config))
        except Exception as error:  # each service has errors of its own
            raise UserError(f"train.tracker: {name} cannot begin ({type(error).__name__}: {error})") from error

    def log(self, step: int, row: Mapping[str, float]) -> None:
        """Add the numbers of a step."""
        if self._tracker is None:
            return
        try:
            self._tracker.log({name: value for name, value in row.items() if name != "step"}, step=step)
        except Exception as error:  # a service that is down costs the curves and not the run
            self.trouble, self._tracker = f"tracker lost ({type(error).__name__})", None

    def finish(self) -> None:
        """End tracking."""
        if self._tracker is None:
            return
        try:
            self._tracker.finish()
        except Exception as error:
            self.trouble = f"tracker lost ({type(error).__name__})"
        self._tracker = None


def _begin(name: str, run_dir: Path) -> Any:
    from accelerate import PartialState
    from accelerate.tracking import LOGGER_TYPE_TO_CLASS

    PartialState()  # accelerate's trackers ask it which process is the first
    kind, run_name = LOGGER_TYPE_TO_CLASS[name], run_dir.resolve().name
    if name == "tensorboard":
        tracker = kind(name, logging_dir=run_dir / "train")
    elif name == "mlflow":
        tracker = kind(PROJECT, run_name=run_name)
    else:
        tracker = kind(PROJECT, name=run_name)
    if hasattr(tracker, "start"):  # earlier versions of accelerate begin when they are made
        tracker.start()
    return tracker


def _settings(config: RunConfig) -> dict[str, str]:
    """Every setting of the model and the training under its dotted name; secrets hidden."""
    sections = config.model_dump(mode="json", exclude={"evaluation"})
    return dict(flatten(redact(sections)))
