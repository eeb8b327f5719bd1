"""From the values of a utility suite to its row and its change."""

from collections.abc import Callable, Sequence
from pathlib import Path

from unsay.pipeline.evaluate import read_values
from unsay.records import Phase, Prompt
from unsay.scoring import UtilityChange, UtilityRow, compare_utility, score_utility, weighted_mean
from unsay.suites import Suite, get_suite
from unsay.suites.base import Total

Over = Callable[[Sequence[int]], float]
"""Indices of items → a number of the suite."""


def utility_row(folder: Path, name: str, prompts: Sequence[Prompt], phase: Phase, seed: int) -> UtilityRow:
    """The suite's number in one phase, with its further official numbers and those of its categories."""
    suite, rows = get_suite(name), read_values(folder, name, phase)
    values, weights = [row.value for row in rows], [row.weight for row in rows]
    known = [index for index, value in enumerate(values) if value is not None]
    measure = suite.measure
    total = None if measure is None or measure.total is None else _over(prompts, values, measure.total)
    parts = {}
    if measure is not None and known:
        parts = {part: _over(prompts, values, what)(known) for part, what in (measure.parts or {}).items()}
    if suite.by_category:
        members: dict[str, list[int]] = {}
        for index in known:
            members.setdefault(prompts[index].category or "other", []).append(index)
        mean = total or weighted_mean(values, weights)
        parts |= {category: mean(members[category]) for category in sorted(members)}
    return score_utility(
        name,
        phase,
        values,
        title=suite.title,
        groups=[prompt.group for prompt in prompts],
        weights=weights,
        unit=_unit(suite),
        higher_is_better=_higher(suite),
        total=total,
        strata=_strata(suite, prompts),
        parts=parts,
        seed=seed,
    )


def utility_change(folder: Path, name: str, prompts: Sequence[Prompt], seed: int) -> UtilityChange:
    """The suite after against before, item by item."""
    suite = get_suite(name)
    rows = {phase: read_values(folder, name, phase) for phase in Phase}
    values = {phase: [row.value for row in found] for phase, found in rows.items()}
    official = suite.measure.total if suite.measure is not None else None
    weighted = any(row.weight != 1 for found in rows.values() for row in found)

    def total(indices: Sequence[int], phase: Phase) -> float:
        if official is not None:
            return _over(prompts, values[phase], official)(indices)
        return weighted_mean(values[phase], [row.weight for row in rows[phase]])(indices)

    return compare_utility(
        name,
        values[Phase.BEFORE],
        values[Phase.AFTER],
        title=suite.title,
        groups=[prompt.group for prompt in prompts],
        unit=_unit(suite),
        higher_is_better=_higher(suite),
        total=total if official is not None or weighted else None,
        strata=_strata(suite, prompts),
        seed=seed,
    )


def _over(prompts: Sequence[Prompt], values: Sequence[float | None], what: Total) -> Over:
    return lambda indices: what([prompts[index] for index in indices], [values[index] or 0.0 for index in indices])


def _strata(suite: Suite, prompts: Sequence[Prompt]) -> list[str] | None:
    """The part of an official number that each item belongs to: such a number is put together from its categories'."""
    if suite.measure is None or suite.measure.total is None:
        return None
    return [prompt.category or "other" for prompt in prompts]


def _unit(suite: Suite) -> str:
    if suite.measure is not None:
        return suite.measure.unit
    return suite.grade.unit if suite.grade is not None else "rate" if suite.choose is not None else "nats per token"


def _higher(suite: Suite) -> bool:
    return suite.measure.higher_is_better if suite.measure is not None else not suite.likelihood
