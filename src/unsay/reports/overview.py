"""The index of many runs and studies: one page that links their reports."""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from unsay.errors import UserError
from unsay.files import read_text, write_text
from unsay.reports.html import page_templates

MARK = '<meta name="generator" content="unsay runs">'
"""In every index page: another `index.html` is somebody else's, and is not replaced."""

Status = Literal["running", "finished", "failed", "interrupted"]


@dataclass(frozen=True)
class RunLine:
    """One run or study, as the list shows it."""

    name: str  # its path under the folder that is listed
    kind: Literal["run", "study"]
    status: Status
    sentence: str  # its headline, what it is doing, or why it ended
    seconds: float  # of all its stages, those that were reused included
    remaining: float | None  # seconds that it may still take, if that is known
    changed: float  # seconds since 1970 of its last sign of life
    page: str | None  # path of its report under the folder that is listed


def write_index(folder: Path, lines: Sequence[RunLine]) -> Path:
    """Write `index.html` in a folder, atomically, and return its path.

    Raises:
        UserError: there is an `index.html` that is not an index of runs.
    """
    path = folder / "index.html"
    if path.exists() and MARK not in read_text(path):
        raise UserError(f"{path}: exists and was not written by `unsay runs`; move it, or list another folder")
    write_text(path, render_index(folder.resolve().name, lines))
    return path


def render_index(name: str, lines: Sequence[RunLine]) -> str:
    """The page as text; it loads nothing."""
    environment = page_templates()
    environment.filters["moment"] = moment
    page = environment.get_template("overview.html.j2").render(
        name=name,
        lines=lines,
        listed=_listed(lines),
        mark=MARK,
        counts={
            status: sum(line.status == status for line in lines)
            for status in dict.fromkeys(row.status for row in lines)
        },
        now=time.time(),
    )
    return page.strip() + "\n"


def _listed(lines: Sequence[RunLine]) -> str:
    """`3 runs and 1 study`."""
    runs, studies = (sum(line.kind == kind for line in lines) for kind in ("run", "study"))
    parts = [f"{runs} {'run' if runs == 1 else 'runs'}"] if runs or not studies else []
    parts += [f"{studies} {'study' if studies == 1 else 'studies'}"] if studies else []
    return " and ".join(parts)


def moment(seconds: float) -> str:
    """`2026-11-29 10:15`, in local time."""
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(seconds))
