"""Subsets of a suite: its prompts of one kind, modality and condition, which have numbers of their own."""

from collections.abc import Iterable, Sequence
from typing import Protocol

from unsay.records import Condition, Kind, Modality, Phase, Prompt
from unsay.scoring.schema import SuiteRow

Subset = tuple[str, Kind, Modality, Condition]
"""Suite, kind, modality, condition."""


class InSubset(Protocol):
    """Anything that belongs to a subset: prompts, rows, changes, samples."""

    @property
    def suite(self) -> str:
        """The suite's name."""
        ...

    @property
    def kind(self) -> Kind:
        """What it measures."""
        ...

    @property
    def modality(self) -> Modality:
        """How the request reaches the model."""
        ...

    @property
    def condition(self) -> Condition:
        """What was shown beside the words."""
        ...


def subset_of(row: InSubset) -> Subset:
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


def is_control(row: InSubset) -> bool:
    """Whether a text suite is shown a picture, or another suite anything but its own.

    A control has rows and a table of its own. It explains another number, so it is never pooled.
    """
    return row.condition is not (Condition.NO_IMAGE if row.modality is Modality.TEXT else Condition.REAL)


def plain_title(suite: str) -> str:
    """A title made from a name: `advbench_heldout` becomes `Advbench heldout`; capitals stay."""
    words = suite.replace("_", " ").replace("-", " ").strip()
    return words[:1].upper() + words[1:]
