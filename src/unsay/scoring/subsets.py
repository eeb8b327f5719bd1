"""Which prompts of a suite have a number of their own, and which rows belong to which prompt."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, TypeVar

from unsay.errors import UserError
from unsay.records import Condition, Kind, Modality, Phase, Prompt
from unsay.scoring.schema import Change, PartRow, SuiteRow

Subset = tuple[str, Kind, Modality, Condition]
"""Suite, kind, modality, condition: what has a number of its own."""


def subset_of(row: Prompt | SuiteRow | PartRow | Change) -> Subset:
    """The key that all rows of one subset share, in both phases."""
    return row.suite, row.kind, row.modality, row.condition


def split_suite(prompts: Sequence[Prompt]) -> list[list[Prompt]]:
    """The subsets of a suite, in order of first appearance.

    Packaged suites are one subset; a user's file may mix attacks and benign requests, with and without pictures, and
    one rate over such a mixture would mean nothing.
    """
    subsets: dict[Subset, list[Prompt]] = {}
    for row in prompts:
        subsets.setdefault(subset_of(row), []).append(row)
    return list(subsets.values())


def by_subset(rows: Iterable[SuiteRow]) -> dict[Subset, dict[Phase, SuiteRow]]:
    """The phases of every subset, in order of first appearance."""
    phases: dict[Subset, dict[Phase, SuiteRow]] = {}
    for row in rows:
        phases.setdefault(subset_of(row), {})[row.phase] = row
    return phases


def is_control(row: Prompt | SuiteRow | Change) -> bool:
    """Whether a text suite is shown a picture, or another suite anything but its own.

    A control has rows and a table of its own. It explains another number, so it is never pooled.
    """
    return row.condition is not (Condition.NO_IMAGE if row.modality is Modality.TEXT else Condition.REAL)


def plain_title(suite: str) -> str:
    """A title made from a name: `advbench_heldout` becomes `Advbench heldout`; capitals stay."""
    words = suite.replace("_", " ").replace("-", " ").strip()
    return words[:1].upper() + words[1:]


class HasId(Protocol):
    """Anything with an id: responses, verdicts."""

    @property
    def id(self) -> str:
        """The prompt's id."""
        ...


Item = TypeVar("Item", bound=HasId)


def by_id(prompts: Sequence[Prompt], rows: Sequence[Item], suite: str, what: str) -> Mapping[str, Item]:
    """The rows (`what` names them in messages) by id; a `UserError` unless there is exactly one for every prompt."""
    wanted, given = Counter(row.id for row in prompts), Counter(row.id for row in rows)
    for counts, where in ((wanted, "prompts"), (given, what)):
        if repeated := sorted(name for name, count in counts.items() if count > 1):
            raise UserError(f"suite {suite!r}: id {repeated[0]!r} occurs more than once in its {where}")
    problems = []
    if missing := sorted(wanted.keys() - given.keys()):
        problems.append(f"{len(missing)} of {len(wanted)} prompts have no row (first: {missing[0]!r})")
    if extra := sorted(given.keys() - wanted.keys()):
        problems.append(f"{len(extra)} rows belong to no prompt (first: {extra[0]!r})")
    if problems:
        raise UserError(f"suite {suite!r}: {what} do not match its prompts: {'; '.join(problems)}; rerun that stage")
    return {row.id: row for row in rows}
