"""`report.html` while a run lives: what is done, what is being done, how long it may take, and the curves so far.

The page reads itself again every few seconds. It stops when the run says that it has ended, and when nothing has been
heard of the run for a while, since a killed run cannot say so.
"""

from functools import cache
from pathlib import Path
from typing import Literal

from jinja2 import Template
from pydantic import Field

from unsay.errors import UserError
from unsay.files import read_json, write_json, write_text
from unsay.records import Record
from unsay.reports.charts import panels, read_metrics
from unsay.reports.html import page_templates

STATE_FILE = "progress.json"
"""In a run directory: what a run that has no scores is doing, or how it ended."""
EVERY = 5.0
"""Seconds between two versions of the page."""
SILENCE = 90.0
"""Seconds without a new version after which the page says that the run has ended."""


class LiveStage(Record):
    """One stage that has begun."""

    title: str
    began: float
    """Seconds since 1970."""
    seconds: float | None = None
    """How long it took; None while it runs."""
    note: str = ""
    """What came of it."""


class LiveState(Record):
    """What a run is doing, for its page and for `unsay runs`."""

    state: Literal["running", "failed", "interrupted"]
    began: float
    """Seconds since 1970."""
    written: float
    """Likewise: when this was so."""
    about: dict[str, str] = Field(default_factory=dict)
    """Model and seed."""
    stages: tuple[LiveStage, ...] = ()
    ahead: tuple[tuple[str, float | None], ...] = ()
    """Titles of the stages that follow, and the seconds that each may take, if a like one has been done."""
    done: int | None = None
    """Of the running stage."""
    total: int | None = None
    note: str = ""
    remaining: float | None = None
    """Seconds that the running stage may still take."""
    trained: bool = False
    """Whether the curves are this run's."""
    problem: str = ""
    """Why it failed; one line."""

    @property
    def now(self) -> LiveStage | None:
        """The running stage, or the one in which the run ended."""
        return self.stages[-1] if self.stages and self.stages[-1].seconds is None else None

    @property
    def share(self) -> float | None:
        """How much of the running stage is done, 0 to 1; None where its size is unknown."""
        return min(1.0, self.done / self.total) if self.total and self.done is not None else None

    @property
    def left(self) -> float | None:
        """Seconds that the rest of the run may take; None where a stage's time is unknown."""
        parts = [self.remaining, *(seconds for _, seconds in self.ahead)]
        return None if any(part is None for part in parts) else sum(part for part in parts if part is not None)


def read_state(run_dir: Path) -> LiveState | None:
    """The state of a run that has no scores; None if it has none, or one of another version."""
    try:
        return LiveState.model_validate(read_json(run_dir / STATE_FILE))
    except (UserError, ValueError):
        return None


def write_live(run_dir: Path, state: LiveState) -> None:
    """Write the state and the page, each atomically."""
    write_json(run_dir / STATE_FILE, state.model_dump(mode="json"))
    write_text(run_dir / "report.html", render_live(run_dir.resolve().name, state, run_dir / "train/metrics.jsonl"))


def render_live(name: str, state: LiveState, metrics: Path) -> str:
    """The page as text; it loads nothing."""
    try:
        curves = panels(read_metrics(metrics)) if state.trained else ()
    except UserError:  # a row that is being written
        curves = ()
    page = _template().render(
        name=name, state=state, every=EVERY, silence=SILENCE, curves=[panel for panel in curves if panel.main]
    )
    return page.strip() + "\n"


@cache
def _template() -> Template:
    return page_templates().get_template("live.html.j2")
