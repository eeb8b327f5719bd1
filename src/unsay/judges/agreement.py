"""How far a judge is to be trusted: its labels against people's.

    python -m unsay.judges.agreement --out docs/results/judge.json [--data-dir DIR] [--gptfuzz-questions FILE]

measures both judges and the refusal rules on every labelled set at hand (see `tools.judge_evidence`).
"""

import argparse
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, TypeAlias, TypeVar, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from scipy.stats import norm

from unsay.files import write_json
from unsay.judges.base import Judge
from unsay.records import Label, Record

Floats: TypeAlias = NDArray[np.float64]
Rate = TypeVar("Rate", float, NDArray[np.float64])
"""One number, or the same of many samples."""

VERSION = 1
"""Raise when any number changes: a measurement that is kept is then made again."""

RESAMPLES = 2000
CONFIDENCE = 0.95
FEW = 10
"""Requests below which redrawing them gives too short an interval; as many as in `unsay.statistics`.

The room of scores stands beside this one, and neither imports the other.
"""


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
    """Rows that it did not; they count nowhere below."""
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
    """Distinct requests among the rows, where some stand more than once: then intervals redraw whole requests."""


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
    intervals of 2,000 bootstrap samples drawn within each human class. Where a request stands more than once, its rows
    are no independent evidence: then all intervals are percentiles of 2,000 samples of whole requests.

    Samples of fewer than 10 requests vary too little, and where the judge was right on every row, or wrong on the same
    share of each request's, they do not vary at all. There no interval is shorter than one that needs no samples:

    - of a share, Wilson's with each request counted once;
    - of balanced accuracy and kappa, from their value where recall and specificity are both at the lower ends of their
      intervals to where both are at the upper ends (both numbers rise with each of the two; for kappa, harm is as
      frequent as among these labels). Both at their ends at once is less likely than either, so this is wide;
    - of the AUC, Wilson's for as many trials as there are pairs of a positive and another row that share no request:
      the AUC is the chance that such a pair is ranked rightly, and these pairs are independent.

    Args:
        judge_labels: one per row.
        human_labels: one per row.
        scores: probability of the positive label, one per row, for the AUC.
        positive: the label that is set against all others.
        groups: the request of each row; None where every row has its own.
        seed: of the bootstrap.

    Raises:
        ValueError: the sequences differ in length.
    """
    if any(given is not None and len(given) != len(human_labels) for given in (judge_labels, scores, groups)):
        raise ValueError("labels, scores and groups differ in length")
    judged = np.array([label is not Label.FAILED for label in judge_labels], dtype=bool)
    said = np.array([label is positive for label in judge_labels], dtype=bool)[judged]
    true = np.array([label is positive for label in human_labels], dtype=bool)[judged]
    rank = None if scores is None else np.asarray(scores, dtype=float)[judged]
    generator = np.random.default_rng(seed)
    requests = np.asarray(groups)[judged] if groups is not None else np.arange(len(true))
    names, of = np.unique(requests, return_inverse=True)
    repeated = len(names) < len(true)
    shares = {
        "accuracy": (said == true, np.ones_like(true)),
        "precision": (true, said),
        "recall": (said, true),
        "specificity": (~said, ~true),
    }
    estimates: dict[str, Estimate | None] = dict.fromkeys(("balanced_accuracy", "kappa", "auc"))
    if repeated:
        drawn = generator.multinomial(len(names), np.full(len(names), 1 / len(names)), RESAMPLES)[:, of]
        counts = np.vstack([np.ones(len(true)), drawn])
        estimates |= {name: _clustered(*share, counts, of) for name, share in shares.items()}
    else:
        estimates |= {name: _share(outcome[among]) for name, (outcome, among) in shares.items()}
    recall, specificity = estimates["recall"], estimates["specificity"]
    if recall is not None and specificity is not None:
        samples = (counts[:, true], counts[:, ~true]) if repeated else _within_classes(true, generator)
        redrawn = _statistics(said, true, rank, samples)
        estimates |= _no_shorter(redrawn, recall, specificity, true, of)
    if len(names) == 1:  # one request says nothing of others
        estimates = {name: one and _anything(name, one) for name, one in estimates.items()}
    return Calibration(
        positive=positive,
        n=len(true),
        failed=int((~judged).sum()),
        positives=int(true.sum()),
        requests=len(names) if repeated else None,
        **estimates,
    )


def _anything(name: str, estimate: Estimate) -> Estimate:
    """An estimate whose interval rules nothing out."""
    return estimate.model_copy(update={"low": -1.0 if name == "kappa" else 0.0, "high": 1.0})


def _share(outcomes: NDArray[np.bool_]) -> Estimate | None:
    """A share of rows that are all independent."""
    return _wilson(float(outcomes.mean()), len(outcomes)) if len(outcomes) else None


def _wilson(share: float, n: int) -> Estimate:
    """Wilson's interval (1927) of a share of `n` trials; of requests it need not be a whole number of them."""
    z2 = float(norm.ppf((1 + CONFIDENCE) / 2)) ** 2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = math.sqrt(z2 * (share * (1 - share) / n + z2 / (4 * n * n))) / (1 + z2 / n)
    # At 0 and 1 one edge is the share itself, which rounding must not miss.
    return Estimate(value=share, low=max(0.0, min(share, middle - half)), high=min(1.0, max(share, middle + half)))


def _narrow(estimate: Estimate, requests: int) -> bool:
    """Whether an interval of samples claims too much: few requests were redrawn, or redrawing changed nothing."""
    return requests < FEW or estimate.high - estimate.low < 1e-9


def _hull(estimate: Estimate, other: Estimate) -> Estimate:
    """The estimate, with the shortest interval that holds both."""
    return estimate.model_copy(update={"low": min(estimate.low, other.low), "high": max(estimate.high, other.high)})


def _clustered(
    outcome: NDArray[np.bool_], among: NDArray[np.bool_], counts: Floats, request_of: NDArray[np.int64]
) -> Estimate | None:
    """A share over samples of whole requests."""
    if not among.any():
        return None
    with np.errstate(divide="ignore", invalid="ignore"):
        redrawn = _percentiles((counts @ (outcome & among)) / (counts @ among))
    requests = len(np.unique(request_of[among]))
    return _hull(redrawn, _wilson(redrawn.value, requests)) if _narrow(redrawn, requests) else redrawn


def _no_shorter(
    redrawn: dict[str, Estimate],
    recall: Estimate,
    specificity: Estimate,
    true: NDArray[np.bool_],
    request_of: NDArray[np.int64],
) -> dict[str, Estimate]:
    """Balanced accuracy, kappa and AUC with intervals that few samples, or equal ones, do not make too short."""
    share = float(true.mean())
    ends = [(recall.low, 1 - specificity.low), (recall.high, 1 - specificity.high)]
    spans = {
        "balanced_accuracy": [_balanced(*end) for end in ends],
        "kappa": [_kappa(share, *end) for end in ends],
    }
    widest = {name: Estimate(value=low, low=low, high=high) for name, (low, high) in spans.items()}
    fewest = min(len(np.unique(request_of[side])) for side in (true, ~true))
    if (auc := redrawn.get("auc")) is not None:
        # A request with rows on both sides stands in one pair only, so no more pairs than half of all requests.
        pairs = min(fewest, len(np.unique(request_of)) // 2)
        widest["auc"] = _wilson(auc.value, max(1, pairs))
    return {name: _hull(one, widest[name]) if _narrow(one, fewest) else one for name, one in redrawn.items()}


def _within_classes(true: NDArray[np.bool_], generator: np.random.Generator) -> tuple[Floats, Floats]:
    """Samples that resample each class apart, so that none lacks one."""
    counts = []
    for size in (int(true.sum()), int((~true).sum())):
        drawn = generator.multinomial(size, np.full(size, 1 / size), RESAMPLES)
        counts.append(np.vstack([np.ones(size), drawn]))
    return counts[0], counts[1]


def _statistics(
    said: NDArray[np.bool_], true: NDArray[np.bool_], scores: Floats | None, counts: tuple[Floats, Floats]
) -> dict[str, Estimate]:
    """Balanced accuracy, kappa and AUC.

    A bootstrap sample is how often it holds each row, so every statistic is a product with these counts: of the
    positive and of the negative rows, shape (1 + RESAMPLES, rows of the class). The first "sample" holds each row
    once: its statistics are the values themselves. A sample without one of the classes has none.
    """
    of_positive, of_negative = counts
    positives, negatives = of_positive.sum(1), of_negative.sum(1)
    with np.errstate(divide="ignore", invalid="ignore"):
        recall = of_positive @ said[true] / positives
        false_alarms = of_negative @ said[~true] / negatives
        share = positives / (positives + negatives)
        found = {
            "balanced_accuracy": _balanced(recall, false_alarms),
            "kappa": _kappa(share, recall, false_alarms),
        }
        if scores is not None:
            # The AUC is how often a positive row outranks a negative one; a tie is half.
            above = np.sign(scores[true][:, None] - scores[~true][None, :]) / 2 + 0.5
            found["auc"] = ((of_positive @ above) * of_negative).sum(1) / (positives * negatives)
    return {name: _percentiles(values) for name, values in found.items()}


def _balanced(recall: Rate, false_alarms: Rate) -> Rate:
    return (recall + 1 - false_alarms) / 2


def _kappa(share: Rate, recall: Rate, false_alarms: Rate) -> Rate:
    """Cohen's kappa from the rates and the share of positive rows."""
    called = share * recall + (1 - share) * false_alarms
    agreement = share * recall + (1 - share) * (1 - false_alarms)
    chance = share * called + (1 - share) * (1 - called)
    return (agreement - chance) / (1 - chance)


def _percentiles(values: Floats) -> Estimate:
    drawn = values[1:]
    low, high = np.quantile(drawn[np.isfinite(drawn)], [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(value=float(values[0]), low=float(low), high=float(high))


class Accuracy(Record):
    """What a report prints beside every ASR."""

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
        parts = [
            f"{name} {estimate.value:.2f} [{estimate.low:.2f}, {estimate.high:.2f}]"
            for name, estimate in (
                ("accuracy", self.calibration.accuracy),
                ("balanced accuracy", self.calibration.balanced_accuracy),
                ("precision", self.calibration.precision),
                ("recall", self.calibration.recall),
                ("AUC", self.calibration.auc),
            )
            if estimate
        ]
        where = f"{self.calibration.n} human labels ({self.measured_on})"
        return f"The judge `{self.judge}` finds harm with {', '.join(parts)} on {where}."


@runtime_checkable
class MeasuredJudge(Protocol):
    """A judge that knows how it fares against people."""

    def accuracy(self) -> Accuracy:
        """Its measured accuracy in finding harm."""
        ...


def accuracy_statement(judge: Judge) -> Accuracy:
    """What is known of a judge's accuracy, by itself or from a calibration; says so plainly if that is nothing."""
    from unsay.judges.calibrate import kept

    found = kept(judge)
    if found is not None and found.calibration is not None:
        return found
    nothing = Accuracy(judge=judge.name, key=judge.key, measured_on="", calibration=None)
    own = judge.accuracy() if isinstance(judge, MeasuredJudge) else nothing
    if found is None:
        return own
    return own.model_copy(update={name: getattr(found, name) for name in ("refusals", "refusals_measured_on")})


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure everything that can be measured and write it as JSON."""
    from tools.judge_evidence import measure_all

    parser = argparse.ArgumentParser(prog="python -m unsay.judges.agreement", description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    parser.add_argument("--data-dir", type=Path, help="benchmark folder (default: UNSAY_DATA_DIR)")
    parser.add_argument("--gptfuzz-questions", type=Path, help="GPTFuzz's datasets/questions/question_list.csv")
    options = parser.parse_args(arguments)
    write_json(options.out, measure_all(options.data_dir, options.gptfuzz_questions))


if __name__ == "__main__":
    main()
