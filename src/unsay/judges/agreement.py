"""A judge's labels against people's: agreement in numbers with intervals. No judge is run here."""

from collections.abc import Mapping, Sequence
from typing import Final, TypeVar

import numpy as np
from numpy.typing import NDArray

from unsay.records import Label, Record
from unsay.statistics import Interval, hull, percentile_interval, resample_counts, too_narrow, wilson_of_share

VERSION: Final = 1
"""Raise when any number changes: kept measurements are then made again."""

RESAMPLES: Final = 2000

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]
Indices = NDArray[np.intp]
Rate = TypeVar("Rate", float, Floats)
"""One number, or the same number of many resamples."""


class Estimate(Record):
    """A value with its 95 % interval."""

    value: float
    low: float
    high: float


class Calibration(Record):
    """A judge's labels against people's, for one label against all others. None where nothing can be computed."""

    positive: Label
    n: int
    """Rows that the judge judged."""
    failed: int
    """Rows without a verdict; they count nowhere below."""
    positives: int
    """Rows to which people gave the label."""
    accuracy: Estimate | None
    balanced_accuracy: Estimate | None
    precision: Estimate | None
    recall: Estimate | None
    specificity: Estimate | None
    kappa: Estimate | None
    auc: Estimate | None
    requests: int | None = None
    """Distinct requests among the rows where some repeat: then intervals resample whole requests."""


class Accuracy(Record):
    """What is known of a judge's accuracy; a report prints it beside every ASR."""

    judge: str
    key: str
    measured_on: str
    """The labelled set and how it was used; empty if the judge was never measured."""
    calibration: Calibration | None
    refusals: Calibration | None = None
    """The same for finding refusals, where that was measured."""
    refusals_measured_on: str = ""

    @property
    def text(self) -> str:
        """One sentence for people."""
        if self.calibration is None:
            return f"The judge `{self.judge}` was not measured against human labels."
        names = ("accuracy", "balanced_accuracy", "precision", "recall", "auc")
        parts = [
            f"{name.replace('_', ' ').replace('auc', 'AUC')} {value.value:.2f} [{value.low:.2f}, {value.high:.2f}]"
            for name in names
            if (value := getattr(self.calibration, name)) is not None
        ]
        where = f"{self.calibration.n} human labels ({self.measured_on})"
        return f"The judge `{self.judge}` finds harm with {', '.join(parts)} on {where}."


class Judged(Record):
    """What a judge has judged in a run, so that the nearest of its measurements can be quoted."""

    tokens: float
    """Median length of the answers."""
    jailbreaks: bool
    """Whether most requests stood inside other words, as jailbreaks do."""


def measure(
    judge_labels: Sequence[Label],
    human_labels: Sequence[Label],
    scores: Sequence[float] | None = None,
    *,
    positive: Label = Label.HARMFUL,
    groups: Sequence[str] | None = None,
    seed: int = 0,
) -> Calibration:
    """Compare a judge's labels with people's.

    Accuracy, precision, recall and specificity have Wilson intervals; balanced accuracy, kappa and AUC percentile
    intervals of 2,000 bootstrap samples drawn within each human class. Where requests repeat, their rows are no
    independent evidence: then all intervals are percentiles of 2,000 samples of whole requests.

    Samples of fewer than 10 requests vary too little, and where the judge was right on every row, or wrong on the same
    share of each request's, they do not vary at all. There no interval is shorter than one that needs no samples:

    - of a share, Wilson's with each request counted once;
    - of balanced accuracy and kappa, from their value where recall and specificity are both at the lower ends of their
      intervals to where both are at the upper ends (both numbers rise with each of the two; for kappa, the label is as
      frequent as among these rows). Both at their ends at once is less likely than either, so this is wide;
    - of the AUC, Wilson's for as many trials as there are pairs of a positive and another row that share no request:
      the AUC is the chance that such a pair is ranked rightly, and these pairs are independent.

    Args:
        judge_labels: one per row.
        human_labels: one per row.
        scores: probability of the positive label, one per row, for the AUC.
        positive: the label that is set against all others.
        groups: the request of each row; None where no request repeats.
        seed: of the bootstrap.
    """
    if any(given is not None and len(given) != len(human_labels) for given in (judge_labels, scores, groups)):
        raise ValueError("labels, scores and groups differ in length")
    judged = np.array([label is not Label.FAILED for label in judge_labels], dtype=bool)
    called = np.array([label is positive for label in judge_labels], dtype=bool)[judged]
    true = np.array([label is positive for label in human_labels], dtype=bool)[judged]
    rank = None if scores is None else np.asarray(scores, dtype=float)[judged]
    generator = np.random.default_rng(seed)
    requests = np.asarray(groups)[judged] if groups is not None else np.arange(len(true))
    names, request_of = np.unique(requests, return_inverse=True)
    repeated = len(names) < len(true)
    shares = {
        "accuracy": (called == true, np.ones_like(true)),
        "precision": (true, called),
        "recall": (called, true),
        "specificity": (~called, ~true),
    }
    estimates: dict[str, Estimate | None] = dict.fromkeys(("balanced_accuracy", "kappa", "auc"))
    if repeated:
        drawn = resample_counts(len(names), RESAMPLES, generator)[:, request_of]
        counts = np.vstack([np.ones(len(true)), drawn])
        estimates |= {name: _clustered_share(*share, counts, request_of) for name, share in shares.items()}
    else:
        estimates |= {name: _share(outcome[among]) for name, (outcome, among) in shares.items()}
    recall, specificity = estimates["recall"], estimates["specificity"]
    if recall is not None and specificity is not None:
        samples = (counts[:, true], counts[:, ~true]) if repeated else _within_classes(true, generator)
        resampled = _resampled(called, true, rank, samples)
        estimates |= _widened(resampled, recall, specificity, true, request_of)
    if len(names) == 1:  # one request says nothing of others
        estimates = {name: one and _uninformative(name, one) for name, one in estimates.items()}
    return Calibration(
        positive=positive,
        n=len(true),
        failed=int((~judged).sum()),
        positives=int(true.sum()),
        requests=len(names) if repeated else None,
        **estimates,
    )


def _estimate(value: float, interval: Interval) -> Estimate:
    return Estimate(value=value, low=interval.low, high=interval.high)


def _uninformative(name: str, estimate: Estimate) -> Estimate:
    """The estimate with an interval that rules nothing out."""
    return estimate.model_copy(update={"low": -1.0 if name == "kappa" else 0.0, "high": 1.0})


def _share(outcomes: Bools) -> Estimate | None:
    """A share of independent rows."""
    share = float(outcomes.mean()) if len(outcomes) else 0.0
    return _estimate(share, wilson_of_share(share, len(outcomes))) if len(outcomes) else None


def _clustered_share(outcome: Bools, among: Bools, counts: Floats, request_of: Indices) -> Estimate | None:
    """A share over samples of whole requests."""
    if not among.any():
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        resampled = _percentiles((counts @ (outcome & among)) / (counts @ among))
    requests = len(np.unique(request_of[among]))
    return _no_narrower(resampled, wilson_of_share(resampled.value, requests), requests)


def _no_narrower(estimate: Estimate, other: Interval, requests: int) -> Estimate:
    """The estimate, widened to hold `other` where its own interval of samples is too narrow to be believed."""
    own = Interval(low=estimate.low, high=estimate.high)
    return _estimate(estimate.value, hull(own, other)) if too_narrow(own, requests) else estimate


def _widened(
    resampled: Mapping[str, Estimate], recall: Estimate, specificity: Estimate, true: Bools, request_of: Indices
) -> dict[str, Estimate]:
    """Balanced accuracy, kappa and AUC with intervals that few samples, or equal ones, do not make too short."""
    share = float(true.mean())
    ends = [(recall.low, 1 - specificity.low), (recall.high, 1 - specificity.high)]
    low, high = (_balanced_accuracy(*end) for end in ends)
    widest = {"balanced_accuracy": Interval(low=low, high=high)}
    low, high = (_kappa(share, *end) for end in ends)
    widest["kappa"] = Interval(low=low, high=high)
    fewest = min(len(np.unique(request_of[side])) for side in (true, ~true))
    if (auc := resampled.get("auc")) is not None:
        # A request with rows on both sides is in one pair only, so there are no more pairs than half of all requests.
        pairs = min(fewest, len(np.unique(request_of)) // 2)
        widest["auc"] = wilson_of_share(auc.value, max(1, pairs))
    return {name: _no_narrower(one, widest[name], fewest) for name, one in resampled.items()}


def _within_classes(true: Bools, generator: np.random.Generator) -> tuple[Floats, Floats]:
    """Samples that resample each class apart, so that none lacks one."""
    positives, negatives = (
        np.vstack([np.ones(size), resample_counts(size, RESAMPLES, generator)])
        for size in (int(true.sum()), int((~true).sum()))
    )
    return positives, negatives


def _resampled(called: Bools, true: Bools, scores: Floats | None, counts: tuple[Floats, Floats]) -> dict[str, Estimate]:
    """Balanced accuracy, kappa and AUC.

    A bootstrap sample is how often it holds each row, so every statistic is a product with these counts: of the
    positive and of the negative rows, shape (1 + RESAMPLES, rows of the class). The first "sample" holds each row
    once: its statistics are the values themselves. A sample without one of the classes has none.
    """
    of_positive, of_negative = counts
    positives, negatives = of_positive.sum(1), of_negative.sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        recall = of_positive @ called[true] / positives
        false_alarms = of_negative @ called[~true] / negatives
        share = positives / (positives + negatives)
        statistics = {
            "balanced_accuracy": _balanced_accuracy(recall, false_alarms),
            "kappa": _kappa(share, recall, false_alarms),
        }
        if scores is not None:
            # The AUC is how often a positive row outranks a negative one; a tie is half.
            above = np.sign(scores[true][:, None] - scores[~true][None, :]) / 2 + 0.5
            statistics["auc"] = ((of_positive @ above) * of_negative).sum(1) / (positives * negatives)
    return {name: _percentiles(values) for name, values in statistics.items()}


def _balanced_accuracy(recall: Rate, false_alarms: Rate) -> Rate:
    return (recall + 1 - false_alarms) / 2


def _kappa(share: Rate, recall: Rate, false_alarms: Rate) -> Rate:
    """Cohen's kappa from the rates and the share of positive rows."""
    called = share * recall + (1 - share) * false_alarms
    agreement = share * recall + (1 - share) * (1 - false_alarms)
    chance = share * called + (1 - share) * (1 - called)
    return (agreement - chance) / (1 - chance)


def _percentiles(values: Floats) -> Estimate:
    """The first value with the interval of the others."""
    return _estimate(float(values[0]), percentile_interval(values[1:]))
