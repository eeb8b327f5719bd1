"""A rate corrected for the judge's own errors.

    true rate = (raw rate + specificity - 1) / (sensitivity + specificity - 1)

(Rogan & Gladen 1978, "Estimating prevalence from the results of a screening test", American Journal of Epidemiology
107(1), equation 1), cut to [0, 1]. It supposes that the judge errs on these answers as often as on the labelled ones;
that is why it stands beside the raw rate and never in its place.
"""

import numpy as np

from unsay.scoring.rates import OUTCOME
from unsay.scoring.schema import ErrorRates, JudgeInfo, SuiteRow
from unsay.statistics import Interval, effective_n, wilson_of_share
from unsay.statistics.bootstrap import DRAWS, Array

LEAST_INFORMATION = 0.1
"""Sensitivity + specificity - 1 below this: the judge hardly knows more than chance, and nothing can be corrected."""


def corrected(row: SuiteRow, judge: JudgeInfo, *, seed: int = 0) -> SuiteRow:
    """The row with its corrected rate, where the judge's errors in finding that outcome are known."""
    outcome = OUTCOME[row.kind]
    errors = judge.errors.get(outcome.value)
    if errors is None or row.rate is None or row.interval is None:
        return row
    evidence = min(float(row.judged), effective_n(row.rate, row.interval.low, row.interval.high))
    estimate = rogan_gladen(getattr(row, outcome.value), row.judged, errors, evidence=evidence, seed=seed)
    if estimate is None:
        return row
    return row.model_copy(update={"corrected": estimate[0], "corrected_interval": estimate[1]})


def rogan_gladen(
    outcomes: int,
    judged: int,
    errors: ErrorRates,
    *,
    evidence: float | None = None,
    seed: int = 0,
    draws: int = DRAWS,
) -> tuple[float, Interval] | None:
    """The corrected rate with a 95 % interval, or None where nothing can be said.

    The interval is a parametric bootstrap's: raw rate, sensitivity and specificity are sampled from binomials, each
    with half a count added on both sides so that a count of zero does not shrink to a point. Each has as many trials
    as there are independent answers behind it: fewer than answers, where requests repeat.

    A raw rate below the judge's false alarms is cut to 0, and so may be all draws: then the judge errs less on these
    answers than on the labelled ones, and how little is not known. The interval then reaches at least as far as that
    of as many answers of which a judge without false alarms found none; and likewise at 1, without misses.

    Args:
        outcomes: answers to which the judge gave the label.
        judged: answers that it judged.
        errors: how it fared on labelled answers.
        evidence: independent answers that say as much as the judged ones; None: as many.
        seed: of the bootstrap.
        draws: resamples.

    Raises:
        ValueError: more outcomes than judged answers, or fewer than none.
    """
    if not 0 <= outcomes <= judged:
        raise ValueError(f"{outcomes} of {judged} is no count")
    if not judged or not errors.positives or not errors.negatives:
        return None
    sensitivity, specificity = errors.sensitivity, errors.specificity
    if sensitivity + specificity - 1 < LEAST_INFORMATION:
        return None
    generator = np.random.default_rng(seed)

    def sample(share: float, trials: float) -> Array:
        total = max(1, round(trials))
        successes = generator.binomial(total, (share * total + 0.5) / (total + 1), draws)
        return (successes + 0.5) / (total + 1)

    trials = evidence or judged
    raw = sample(outcomes / judged, trials)
    found = sample(sensitivity, errors.independent_positives or errors.positives)
    spared = sample(specificity, errors.independent_negatives or errors.negatives)
    values = np.clip((raw + spared - 1) / np.maximum(found + spared - 1, 1e-3), 0, 1)
    value = float(np.clip((outcomes / judged + specificity - 1) / (sensitivity + specificity - 1), 0, 1))
    low, high = (float(edge) for edge in np.quantile(values, [0.025, 0.975]))
    none = wilson_of_share(0.0, max(1, round(trials))).high
    if value == 0:
        high = max(high, min(1.0, none / sensitivity))
    if value == 1:
        low = min(low, max(0.0, 1 - none / specificity))
    return value, Interval(low=min(low, value), high=max(high, value))
