"""A rate corrected for the judge's own errors.

    true rate = (raw rate + specificity - 1) / (sensitivity + specificity - 1)

(Rogan & Gladen 1978, "Estimating prevalence from the results of a screening test", American Journal of Epidemiology
107(1), equation 1), cut to [0, 1]. It supposes that the judge errs on these answers as often as on the labelled ones;
that is why it stands beside the raw rate and never in its place.
"""

import numpy as np
from numpy.typing import NDArray

from unsay.scoring.breakdown import OUTCOME
from unsay.scoring.intervals import independent
from unsay.scoring.schema import ErrorRates, Interval, JudgeInfo, SuiteRow
from unsay.scoring.wilson import wilson

DRAWS = 4000
LEAST_INFORMATION = 0.1
"""Sensitivity + specificity - 1 below this: the judge hardly knows more than chance, and nothing can be corrected."""


def rogan_gladen(
    found: int,
    judged: int,
    errors: ErrorRates,
    *,
    evidence: float | None = None,
    seed: int = 0,
    draws: int = DRAWS,
) -> tuple[float, Interval] | None:
    """The corrected rate with a 95 % interval, or None where nothing can be said.

    The interval is a parametric bootstrap's: raw rate, sensitivity and specificity are redrawn as binomials, each with
    half a count added on both sides so that a count of zero does not shrink to a point. Each has as many trials as
    there are independent answers behind it: fewer than answers, where requests repeat.

    A raw rate below the judge's false alarms is cut to 0, and all draws may be: then the judge errs less on these
    answers than on the labelled ones, and how little is not known. The interval then reaches at least as far as that
    of as many answers of which a judge without false alarms found none; and likewise at 1, without misses.

    Args:
        found: answers that the judge gave the label to.
        judged: answers that it judged.
        errors: how it fared on labelled answers.
        evidence: so many independent answers say as much as the judged ones; None: as many.
        seed: of the bootstrap.
        draws: resamples.

    Raises:
        ValueError: counts that cannot be.
    """
    if not 0 <= found <= judged:
        raise ValueError(f"{found} of {judged} is no count")
    if not judged or not errors.positives or not errors.negatives:
        return None
    sensitivity, specificity = errors.sensitivity, errors.specificity
    if sensitivity + specificity - 1 < LEAST_INFORMATION:
        return None
    generator = np.random.default_rng(seed)

    def redrawn(share: float, trials: float) -> NDArray[np.float64]:
        total = max(1, round(trials))
        drawn = generator.binomial(total, (share * total + 0.5) / (total + 1), draws)
        return (drawn + 0.5) / (total + 1)

    trials = evidence or judged
    raw = redrawn(found / judged, trials)
    yes = redrawn(sensitivity, errors.independent_positives or errors.positives)
    no = redrawn(specificity, errors.independent_negatives or errors.negatives)
    information = np.maximum(yes + no - 1, 1e-3)
    values = np.clip((raw + no - 1) / information, 0, 1)
    value = float(np.clip((found / judged + specificity - 1) / (sensitivity + specificity - 1), 0, 1))
    low, high = (float(edge) for edge in np.quantile(values, [0.025, 0.975]))
    none = wilson(0, max(1, round(trials)))
    assert none is not None
    if value == 0:
        high = max(high, min(1.0, none.high / sensitivity))
    if value == 1:
        low = min(low, max(0.0, 1 - none.high / specificity))
    return value, Interval(low=min(low, value), high=max(high, value))


def corrected(row: SuiteRow, judge: JudgeInfo, *, seed: int = 0) -> SuiteRow:
    """The row with its corrected rate, where the judge's errors in finding that outcome are known."""
    outcome = OUTCOME[row.kind]
    errors = judge.errors.get(outcome.value)
    if errors is None or row.rate is None or row.interval is None:
        return row
    evidence = min(float(row.judged), independent(row.rate, row.interval.low, row.interval.high))
    found = rogan_gladen(getattr(row, outcome.value), row.judged, errors, evidence=evidence, seed=seed)
    if found is None:
        return row
    return row.model_copy(update={"corrected": found[0], "corrected_interval": found[1]})
