"""Any judge against people's labels, and where the numbers are kept so that they travel with every score."""

from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import ValidationError

from unsay.assets import cache_dir
from unsay.errors import UserError
from unsay.files import read_json, write_json
from unsay.judging.calibration import Accuracy, Calibration, measure
from unsay.judging.judge import Judge, judge_all
from unsay.judging.label_sets import LabelSet
from unsay.judging.labelled import as_attacks
from unsay.records import Label, Record

TOLD_EVERY = 16
"""Rows judged between two reports of progress."""


class SetResult(Record):
    """A judge on one labelled set."""

    name: str
    fitted_on: bool
    """The judge was fitted on these very rows: the numbers are too good."""
    calibration: Calibration


class CalibrationReport(Record):
    """A judge on every labelled set at hand."""

    judge: str
    key: str
    sets: tuple[SetResult, ...]

    def headline(self) -> SetResult | None:
        """The set that is quoted beside scores: the first one that asks for harm and was not fitted on."""
        clean = [one for one in self.sets if not one.fitted_on and one.calibration.n]
        return next((one for one in clean if one.calibration.positive is Label.HARMFUL), None)


def calibrate(
    judge: Judge, sets: Sequence[LabelSet], progress: Callable[[int, int], None] | None = None
) -> CalibrationReport:
    """Judge every row of every set and compare with people.

    Args:
        judge: any judge.
        sets: from `label_sets`.
        progress: told (rows so far, rows in all).

    Raises:
        UserError: the judge cannot work here.
    """
    total = sum(len(one.rows) for one in sets)
    done = 0
    results = []
    for one in sets:
        pairs = as_attacks(one.rows)
        verdicts = []
        for start in range(0, len(pairs), TOLD_EVERY):
            verdicts += judge_all(judge, pairs[start : start + TOLD_EVERY])
            if progress is not None:
                progress(done + len(verdicts), total)
        done += len(pairs)
        scores = [verdict.score for verdict in verdicts]
        # A score is of harm. Rows that rules settled have none: they stand below all others.
        ranked = one.positive is Label.HARMFUL and any(score is not None for score in scores)
        measured = measure(
            [verdict.label for verdict in verdicts],
            [row.label for row in one.rows],
            [score or 0.0 for score in scores] if ranked else None,
            positive=one.positive,
        )
        results.append(SetResult(name=one.name, fitted_on=judge.name in one.fitted_by, calibration=measured))
    return CalibrationReport(judge=judge.name, key=judge.key, sets=tuple(results))


def keep(report: CalibrationReport) -> Path:
    """Keep a report under the judge's key, where `kept` finds it; returns the file.

    Raises:
        UserError: the cache cannot be written.
    """
    path = _place(report.key)
    write_json(path, report.model_dump(mode="json"))
    return path


def kept(judge: Judge) -> Accuracy | None:
    """What an earlier calibration of exactly this judge (same key) found, or None."""
    path = _place(judge.key)
    if not path.exists():
        return None
    try:
        report = CalibrationReport.model_validate(read_json(path))
    except (UserError, ValidationError):
        return None  # damaged, or of another version: as if it had never been
    best = report.headline()
    if best is None:
        return None
    about = f"{best.name}, never fitted on"
    return Accuracy(judge=judge.name, key=judge.key, measured_on=about, calibration=best.calibration)


def _place(key: str) -> Path:
    return cache_dir() / "calibrations" / f"{key}.json"
