"""How far a judge is to be trusted: its labels against people's.

    python -m unsay.judging.calibration --out docs/results/judge.json [--data-dir DIR] [--gptfuzz-questions FILE]

measures both judges and the refusal rules on every labelled set at hand (see `unsay.judging.evidence`).
"""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

from unsay.files import write_json
from unsay.judging.judge import Judge
from unsay.records import Label, Record

Floats: TypeAlias = NDArray[np.float64]

RESAMPLES = 2000
CONFIDENCE = 0.95


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


def measure(
    judge_labels: Sequence[Label],
    human_labels: Sequence[Label],
    scores: Sequence[float] | None = None,
    *,
    positive: Label = Label.HARMFUL,
    seed: int = 0,
) -> Calibration:
    """Compare a judge's labels with people's.

    Accuracy, precision, recall and specificity have Wilson intervals; balanced accuracy, kappa and AUC percentile
    intervals of 2,000 bootstrap samples drawn within each human class.

    Args:
        judge_labels: one per row.
        human_labels: one per row.
        scores: probability of the positive label, one per row, for the AUC.
        positive: the label that is set against all others.
        seed: of the bootstrap.

    Raises:
        ValueError: the sequences differ in length.
    """
    if len(judge_labels) != len(human_labels) or (scores is not None and len(scores) != len(human_labels)):
        raise ValueError("labels and scores differ in length")
    judged = np.array([label is not Label.FAILED for label in judge_labels], dtype=bool)
    said = np.array([label is positive for label in judge_labels], dtype=bool)[judged]
    true = np.array([label is positive for label in human_labels], dtype=bool)[judged]
    wilson = {
        "accuracy": _wilson(said == true),
        "precision": _wilson(true[said]),
        "recall": _wilson(said[true]),
        "specificity": _wilson(~said[~true]),
    }
    names = ("balanced_accuracy", "kappa", "auc")
    bootstrap: dict[str, Estimate | None] = dict.fromkeys(names)
    if true.any() and not true.all():
        rank = None if scores is None else np.asarray(scores, dtype=float)[judged]
        bootstrap |= _bootstrap(said, true, rank, np.random.default_rng(seed))
    return Calibration(
        positive=positive,
        n=len(true),
        failed=int((~judged).sum()),
        positives=int(true.sum()),
        **wilson,
        **bootstrap,
    )


def _wilson(outcomes: NDArray[np.bool_]) -> Estimate | None:
    if not len(outcomes):
        return None
    interval = binomtest(int(outcomes.sum()), len(outcomes)).proportion_ci(CONFIDENCE, method="wilson")
    return Estimate(value=float(outcomes.mean()), low=float(interval.low), high=float(interval.high))


def _bootstrap(
    said: NDArray[np.bool_], true: NDArray[np.bool_], scores: Floats | None, generator: np.random.Generator
) -> dict[str, Estimate]:
    """Balanced accuracy, kappa and AUC; each class is resampled apart, so that no sample lacks one.

    A bootstrap sample is how often it holds each row, so every statistic is a product with these counts. The first
    "sample" holds each row once: its statistics are the values themselves.
    """
    counts = []  # of positive, of negative rows: (1 + RESAMPLES, rows of the class)
    for size in (int(true.sum()), int((~true).sum())):
        drawn = generator.multinomial(size, np.full(size, 1 / size), RESAMPLES)
        counts.append(np.vstack([np.ones(size), drawn]))
    positives, negatives = (block.shape[1] for block in counts)
    recall = counts[0] @ said[true] / positives
    false_alarms = counts[1] @ said[~true] / negatives
    # Cohen's kappa from the rates and the share of positive rows.
    share = positives / (positives + negatives)
    called = share * recall + (1 - share) * false_alarms
    agreement = share * recall + (1 - share) * (1 - false_alarms)
    chance = share * called + (1 - share) * (1 - called)
    statistics = {"balanced_accuracy": (recall + 1 - false_alarms) / 2, "kappa": (agreement - chance) / (1 - chance)}
    if scores is not None:
        # The AUC is how often a positive row outranks a negative one; a tie is half.
        above = np.sign(scores[true][:, None] - scores[~true][None, :]) / 2 + 0.5
        statistics["auc"] = ((counts[0] @ above) * counts[1]).sum(1) / (positives * negatives)
    return {name: _percentiles(values) for name, values in statistics.items()}


def _percentiles(values: Floats) -> Estimate:
    low, high = np.quantile(values[1:], [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Estimate(value=float(values[0]), low=float(low), high=float(high))


class Accuracy(Record):
    """What a report prints beside every ASR."""

    judge: str
    key: str
    measured_on: str
    """The labelled set and how it was used; empty if the judge was never measured."""
    calibration: Calibration | None

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
    from unsay.judging.calibrate import kept

    if (found := kept(judge)) is not None:
        return found
    if isinstance(judge, MeasuredJudge):
        return judge.accuracy()
    return Accuracy(judge=judge.name, key=judge.key, measured_on="", calibration=None)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure everything that can be measured and write it as JSON."""
    from unsay.judging.evidence import measure_all

    parser = argparse.ArgumentParser(prog="python -m unsay.judging.calibration", description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="the JSON file to write")
    parser.add_argument("--data-dir", type=Path, help="benchmark folder (default: UNSAY_DATA_DIR)")
    parser.add_argument("--gptfuzz-questions", type=Path, help="GPTFuzz's datasets/questions/question_list.csv")
    options = parser.parse_args(arguments)
    write_json(options.out, measure_all(options.data_dir, options.gptfuzz_questions))


if __name__ == "__main__":
    main()
