"""Runs a judge on labelled answers, and keeps what was measured so that it stands beside every score."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, Protocol, runtime_checkable

from pydantic import ValidationError

from unsay.assets import cache_dir
from unsay.errors import UserError
from unsay.files import read_json, write_json
from unsay.judges.agreement import Accuracy, Calibration, Judged, measure
from unsay.judges.base import Judge, as_attacks, judge_all, request_groups
from unsay.judges.label_sets import LabelSet, set_rank
from unsay.records import Label, Record

BATCH: Final = 16
"""Rows judged between two reports of progress."""

MAX_FAILED: Final = 0.02
"""Share of rows without a verdict above which a set says nothing: such rows are not a random sample."""


class SetResult(Record):
    """A judge on one labelled set."""

    name: str
    fitted_on: bool
    """The judge was fitted on these very rows: the numbers are too good."""
    calibration: Calibration
    seen: bool = False
    """The judge's rules were written with these rows in view: the numbers may be too good."""
    unfit: str = ""
    """Why the numbers do not describe the judge's errors in a score; empty where they do."""
    content: str = ""
    """Key of the user's file of labels; empty for published sets."""

    @property
    def identity(self) -> tuple[str, Label]:
        """What is measured: the set, and the label that is looked for."""
        return self.name, self.calibration.positive

    @property
    def failing(self) -> bool:
        """Whether the judge gave no verdict on too many rows."""
        return self.calibration.failed > MAX_FAILED * (self.calibration.n + self.calibration.failed)

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
        """The set that is quoted beside scores and corrects them: the first clean one that looks for this label."""
        return next((one for one in self.sets if one.calibration.positive is positive and one.clean), None)


@runtime_checkable
class MeasuredJudge(Protocol):
    """A judge that knows its own agreement with people."""

    def accuracy(self) -> Accuracy:
        """Its measured accuracy in finding harm."""
        ...


@runtime_checkable
class OftenMeasuredJudge(Protocol):
    """A judge that was compared with people at several lengths and on several sources."""

    def accuracy_near(self, judged: Judged) -> Accuracy:
        """The measurement nearest to what it has judged."""
        ...


def calibrate(
    judge: Judge, sets: Sequence[LabelSet], progress: Callable[[int, int], None] | None = None
) -> CalibrationReport:
    """Judge every row of every set and compare with people."""
    # A panel was fitted on what its members were fitted on.
    names = {judge.name, *(str(member.name) for member in getattr(judge, "members", ()))}
    total, done = sum(len(one.rows) for one in sets), 0
    results = []
    for one in sets:
        pairs = as_attacks(one.rows)
        verdicts = []
        for start in range(0, len(pairs), BATCH):
            verdicts += judge_all(judge, pairs[start : start + BATCH])
            if progress is not None:
                progress(done + len(verdicts), total)
        done += len(pairs)
        scores = [verdict.score for verdict in verdicts]
        # A score measures harm. Rows that rules settled have none and rank below all others.
        ranked = one.positive is Label.HARMFUL and any(score is not None for score in scores)
        measured = measure(
            [verdict.label for verdict in verdicts],
            [row.label for row in one.rows],
            [score or 0.0 for score in scores] if ranked else None,
            positive=one.positive,
            groups=request_groups(one.rows),
        )
        fitted_on, seen = bool(names & one.fitted_by), bool(names & one.seen_by)
        about: dict[str, Any] = {"name": one.name, "unfit": one.unfit, "content": one.content}
        results.append(SetResult(fitted_on=fitted_on, seen=seen, calibration=measured, **about))
    return CalibrationReport(judge=judge.name, key=judge.key, sets=tuple(results))


def store_calibration(report: CalibrationReport) -> CalibrationReport:
    """Keep a report under the judge's key and return what is kept now.

    What an earlier calibration of the same judge measured on more rows of a set, or on a set that is not at hand now,
    stays: a quick look at ten rows must not replace ten thousand.
    """
    earlier = _stored(report.key)
    merged = report if earlier is None else _merged(report, earlier)
    write_json(calibration_path(report.key), merged.model_dump(mode="json"))
    return merged


def _merged(new: CalibrationReport, earlier: CalibrationReport) -> CalibrationReport:
    before = {one.identity: one for one in earlier.sets}
    sets = [_better(one, before.pop(one.identity, None)) for one in new.sets]
    ordered = sorted([*sets, *before.values()], key=lambda one: set_rank(one.name))
    return new.model_copy(update={"sets": tuple(ordered)})


def _better(new: SetResult, before: SetResult | None) -> SetResult:
    """The result that says more; the new one of equal ones, and of a file of labels that was corrected."""
    if (
        before is None
        or before.content != new.content
        or (not before.failing, before.calibration.n) <= (not new.failing, new.calibration.n)
    ):
        return new
    # Today's code decides what a set is good for.
    return new.model_copy(update={"calibration": before.calibration})


def _stored(key: str) -> CalibrationReport | None:
    path = calibration_path(key)
    if not path.exists():
        return None
    try:
        return CalibrationReport.model_validate(read_json(path))
    except (UserError, ValidationError):
        return None  # damaged, or of another version


def stored_accuracy(judge: Judge) -> Accuracy | None:
    """What earlier calibrations of exactly this judge (same key) measured, or None."""
    report = _stored(judge.key)
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


def judge_accuracy(judge: Judge, judged: Judged | None = None) -> Accuracy:
    """What is known of a judge's accuracy: from a calibration, else by itself, else nothing, which its text says.

    `judged` tells what it judged, so that it can quote the measurement nearest to that.
    """
    stored = stored_accuracy(judge)
    if stored is not None and stored.calibration is not None:
        return stored
    nothing = Accuracy(judge=judge.name, key=judge.key, measured_on="", calibration=None)
    if judged is not None and isinstance(judge, OftenMeasuredJudge):
        own = judge.accuracy_near(judged)
    else:
        own = judge.accuracy() if isinstance(judge, MeasuredJudge) else nothing
    if stored is None:
        return own
    return own.model_copy(update={"refusals": stored.refusals, "refusals_measured_on": stored.refusals_measured_on})


def calibration_path(key: str) -> Path:
    """The file that keeps what was measured of the judge with this key."""
    return cache_dir() / "calibrations" / f"{key}.json"
