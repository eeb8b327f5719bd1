"""Rankings as one CSV for statistics programs: a line for each arm and number, at full precision."""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence

from unsay.study import words
from unsay.study.cells import Column, absent, columns, measured
from unsay.study.schema import ASR, COHERENT, ArmRow, Cost, Ranking, StudyResult

ARM = ("model", "budget", "limit", "place", "worst_place", "arm", "title", "method", "modality", "state", "seeds")
NUMBER = ("measure", "unit", "value", "low", "high", "n", "requests")
AGAINST = ("difference", "difference_low", "difference_high", "p", "p_holm", "verdict")
"""The arm against the reference: empty for the reference itself, and for what is not compared."""

COSTS = {
    "steps": "steps",
    "tokens": "tokens",
    "image_tokens": "tokens",
    "flops": "operations",
    "seconds": "seconds",
    "peak_memory_bytes": "bytes",
}
"""Costs of training by name → unit; means over the seeds."""


def tidy(result: StudyResult, rankings: Sequence[Ranking]) -> str:
    """The whole file: rates are fractions, what there is not is empty, a failed arm has one line without numbers."""
    text = io.StringIO()
    writer = csv.DictWriter(text, (*ARM, *NUMBER, *AGAINST), restval="", lineterminator="\n")
    writer.writeheader()
    for ranking in rankings:
        for place in ranking.places:
            arm = result.find(place.arm)
            about = {**_about(ranking, arm), "place": place.best, "worst_place": place.worst}
            writer.writerows({**about, **number} for number in _numbers(result, ranking, arm))
        writer.writerows({**_about(ranking, arm), "measure": COHERENT} for arm in absent(result, ranking))
    return text.getvalue()


def _about(ranking: Ranking, arm: ArmRow) -> dict[str, object]:
    return {
        "model": ranking.model,
        "budget": ranking.rule,
        "limit": ranking.limit,
        "arm": arm.arm,
        "title": arm.title,
        "method": arm.method or "",
        "modality": arm.modality,
        "state": arm.state,
        "seeds": " ".join(map(str, arm.seeds)),
    }


def _numbers(result: StudyResult, ranking: Ranking, arm: ArmRow) -> Iterator[Mapping[str, object]]:
    pooled = measured(ASR, "ASR", higher=False)
    babble = Column("degenerate", "babble", False, lambda arm: arm.degenerate)
    for column in (*columns(result), pooled, babble):
        if (found := column.of(arm)) is not None:
            yield {
                "measure": column.name,
                "unit": result.units.get(column.name, "rate"),
                "value": found.value,
                "low": found.interval.low,
                "high": found.interval.high,
                "n": found.n,
                "requests": found.requests,
                **_against(result, ranking, arm, column.name),
            }
    if arm.cost is not None:
        yield from _cost(arm.cost)


def _against(result: StudyResult, ranking: Ranking, arm: ArmRow, measure: str) -> dict[str, object]:
    pair = words.against(result, ranking, arm.name, measure)
    if pair is None:
        return {}
    sign = 1 if pair.first == arm.name else -1
    low, high = sorted((sign * pair.interval.low, sign * pair.interval.high))
    return {
        "difference": sign * pair.difference,
        "difference_low": low,
        "difference_high": high,
        "p": pair.p,
        "p_holm": pair.p_holm,
        "verdict": words.verdict(pair, arm.name),
    }


def _cost(cost: Cost) -> Iterator[Mapping[str, object]]:
    for name, unit in COSTS.items():
        yield {"measure": name, "unit": unit, "value": getattr(cost, name)}
    for name, ratio in cost.ratios.items():
        yield {"measure": f"{name}_ratio", "unit": "reference = 1", "value": ratio}
