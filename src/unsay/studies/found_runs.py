"""The runs and studies in a folder: whether each is running, finished, failed or interrupted, and what came of it."""

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from unsay.errors import UserError
from unsay.files import read_json
from unsay.reports.headline import headline
from unsay.reports.live import STATE_FILE, LiveState, read_state
from unsay.reports.numbers import percent
from unsay.reports.overview import RunLine, Status
from unsay.run.directory import in_use
from unsay.scoring import read_scores
from unsay.studies import words
from unsay.studies.schema import read_result
from unsay.studies.settings import ORIGINAL

DEPTH = 4
"""Folders below the one that is listed."""


def find_runs(folder: Path) -> list[RunLine]:
    """Every run and study under a folder, the one that was last alive first; the runs of a study are not listed apart.

    Raises:
        UserError: no such folder.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder")
    lines = [_study(path, folder) if study else _run(path, folder) for path, study in _walk(folder, DEPTH)]
    return sorted(lines, key=lambda line: (-line.changed, line.name))


def _walk(folder: Path, depth: int) -> Iterator[tuple[Path, bool]]:
    """Paths of run directories, and of studies with True."""
    if (folder / "study.yaml").is_file() or (folder / "study.json").is_file():
        yield folder, True
    elif (folder / "config.yaml").is_file() and (folder / "environment.json").is_file():
        yield folder, False
    elif depth:
        try:
            below = sorted(entry.path for entry in os.scandir(folder) if entry.is_dir() and entry.name[0] != ".")
        except OSError:
            return  # not ours to read
        for path in below:
            yield from _walk(Path(path), depth - 1)


def _run(path: Path, folder: Path) -> RunLine:
    status: Status
    state, remaining = read_state(path), None
    if in_use(path):
        status, sentence = "running", "It has begun." if state is None else _doing(state)
        remaining = None if state is None else state.left
    elif (path / "scores.json").is_file():
        status, sentence = _scored(path)
    elif state is not None and state.state == "failed":
        status, sentence = "failed", state.problem
    else:
        status, sentence = "interrupted", "It has no scores." if state is None else _ended(state)
    return _line(path, folder, "run", status, sentence, remaining)


def _scored(path: Path) -> tuple[Status, str]:
    try:
        return "finished", headline(read_scores(path / "scores.json")).sentence
    except UserError as error:
        return "failed", str(error)


def _doing(state: LiveState) -> str:
    """The running stage, and how much of it is done."""
    if state.now is None:
        return "Between two stages."
    return state.now.title + (f", {percent(state.share, 0)}." if state.share is not None else ".")


def _ended(state: LiveState) -> str:
    return "It ended between two stages." if state.now is None else f"It ended at: {_doing(state)}"


def _study(path: Path, folder: Path) -> RunLine:
    status: Status
    if in_use(path):
        status, sentence = "running", f"{_finished_runs(path)} of its runs are finished so far."
    elif (path / "study.json").is_file():
        status, sentence = _compared(path)
    else:
        status, sentence = "interrupted", f"{_finished_runs(path)} of its runs are finished."
    return _line(path, folder, "study", status, sentence, None)


def _compared(path: Path) -> tuple[Status, str]:
    try:
        result = read_result(path / "study.json")
    except UserError as error:
        return "failed", str(error)
    failures = words.failures(result)
    if failures and all(arm.state == "failed" for arm in result.arms if arm.arm != ORIGINAL):
        return "failed", f"{result.title} {failures[0]}"
    findings = " ".join(words.findings(result)[:1])
    return "finished", f"{result.title} {findings}" + (f" Beware: {failures[0]}" if failures else "")


def _finished_runs(study: Path) -> int:
    return sum(1 for _ in study.rglob("scores.json"))


def _line(path: Path, folder: Path, kind: Any, status: Status, sentence: str, remaining: float | None) -> RunLine:
    records = list(path.rglob("stages/*.json"))
    page = path / ("study.html" if kind == "study" else "report.html")
    signs = (path / STATE_FILE, page, path / "config.yaml", *records)
    return RunLine(
        name=path.relative_to(folder).as_posix() if path != folder else path.resolve().name,
        kind=kind,
        status=status,
        sentence=sentence,
        seconds=sum(map(_seconds, records)),
        remaining=remaining,
        changed=max((entry.stat().st_mtime for entry in signs if entry.exists()), default=0.0),
        page=page.relative_to(folder).as_posix() if page.is_file() else None,
    )


def _seconds(record: Path) -> float:
    """Of a stage; 0 where its record is damaged."""
    try:
        return float(read_json(record).get("seconds", 0.0))
    except (UserError, AttributeError, TypeError, ValueError):
        return 0.0
