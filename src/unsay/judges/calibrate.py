"""Any judge against people's labels, and where the numbers are kept so that they travel with every score."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from pydantic import ValidationError

from unsay.assets import cache_dir
from unsay.errors import UserError
from unsay.files import read_json, write_json
from unsay.judges.agreement import Accuracy, Calibration, measure
from unsay.judges.base import Judge, as_attacks, judge_all, requests_of
from unsay.judges.label_sets import LabelSet, rank
from unsay.records import Label, Record

TOLD_EVERY = 16
"""Rows judged between two reports of progress."""

MOST_FAILED: Final = 0.02
"""Share of rows without a verdict above which a set says nothing: which rows those are is no chance."""


class SetResult(Record):
    """A judge on one labelled set."""

    name: str
    fitted_on: bool
    """The judge was fitted on these very rows: the numbers are too good."""
    calibration: Calibration
    seen: bool = False
    """The judge's rules were written with these rows in view: the numbers may be too good."""
    unfit: str = ""
    """Why they say nothing of the judge's errors in a score; empty where they do."""
    content: str = ""
    """Key of the user's file of labels; empty for published sets."""

    @property
    def identity(self) -> tuple[str, Label]:
        """What is measured: the set, and the label that is looked for."""
        return self.name, self.calibration.positive

    @property
    def failing(self) -> bool:
        """Whether the judge gave no verdict on too many rows."""
        found = self.calibration
        return found.failed > MOST_FAILED * (found.n + found.failed)

    @property
    def clean(self) -> bool:
        """Whether the numbers may be quoted beside a score, and correct it."""
        return not (self.fitted_on or self.seen or self.unfit or self.failing) and self.calibration.n > 0


class CalibrationReport(Record):
    """A judge on every labelled set at hand."""

    judge: str
    key: str
    sets: tuple[SetResult, ...]

    def headline(self, positive: Label = Label.HARMFUL) -> SetResult | None:
        """The set that is quoted beside scores, and corrects them: the first clean one that asks for that label."""
        asking = [one for one in self.sets if one.calibration.positive is positive]
        return next((one for one in asking if one.clean), None)


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
    # A panel knows what its members were fitted on.
    names = {judge.name, *(str(member.name) for member in getattr(judge, "members", ()))}
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
            groups=requests_of(one.rows),
        )
        fitted_on, seen = bool(names & one.fitted_by), bool(names & one.seen_by)
        results.append(
            SetResult(
                name=one.name,
                fitted_on=fitted_on,
                seen=seen,
                unfit=one.unfit,
                calibration=measured,
                content=one.content,
            )
        )
    return CalibrationReport(judge=judge.name, key=judge.key, sets=tuple(results))


def keep(report: CalibrationReport) -> CalibrationReport:
    """Keep a report under the judge's key, where `kept` finds it, and give what is kept now.

    What an earlier calibration of the same judge measured on more rows of a set, or on a set that is not at hand now,
    stays: a quick look at ten rows must not take the place of ten thousand.

    Raises:
        UserError: the cache cannot be written.
    """
    earlier = _read(report.key)
    merged = report if earlier is None else _merged(report, earlier)
    write_json(place(report.key), merged.model_dump(mode="json"))
    return merged


def _merged(new: CalibrationReport, earlier: CalibrationReport) -> CalibrationReport:
    """Of each set the result that says more; of equal ones the new, and of a file that was corrected too."""
    before = {one.identity: one for one in earlier.sets}
    sets = [_better(one, before.pop(one.identity, None)) for one in new.sets]
    return new.model_copy(update={"sets": tuple(sorted([*sets, *before.values()], key=lambda one: rank(one.name)))})


def _better(new: SetResult, before: SetResult | None) -> SetResult:
    if (
        before is None
        or before.content != new.content
        or (not before.failing, before.calibration.n) <= (not new.failing, new.calibration.n)
    ):
        return new
    # What a set is good for is told by the code of today.
    return new.model_copy(update={"calibration": before.calibration})


def _read(key: str) -> CalibrationReport | None:
    path = place(key)
    if not path.exists():
        return None
    try:
        return CalibrationReport.model_validate(read_json(path))
    except (UserError, ValidationError):
        return None  # damaged, or of another version: as if it had never been


def kept(judge: Judge) -> Accuracy | None:
    """What earlier calibrations of exactly this judge (same key) found, or None."""
    report = _read(judge.key)
    if report is None:
        return None
    harm, refusals = report.headline(), report.headline(Label.REFUSED)
    if harm is None and refusals is None:
        return None
    return Accuracy(
        judge=judge.name,
        key=judge.key,
        measured_on=f"{harm.name}, never fitted on" if harm else "",
        calibration=harm.calibration if harm else None,
        refusals=refusals.calibration if refusals else None,
        refusals_measured_on=f"{refusals.name}, never fitted on" if refusals else "",
    )


def place(key: str) -> Path:
    """The file that keeps what is known of the judge with that key."""
    return cache_dir() / "calibrations" / f"{key}.json"
