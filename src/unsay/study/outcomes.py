"""Every answer of an arm as a number, ready to be averaged and paired."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from unsay.pipeline.finished import Item, MeasuredRun
from unsay.pipeline.results import is_mean, pooled_interval
from unsay.records import Kind, Label, Modality
from unsay.scoring import Interval, mean_interval
from unsay.scoring.conditions import is_control
from unsay.study.schema import ASR, COHERENT, REFUSAL, Measure


class Cell(NamedTuple):
    """Which answer: pairs of arms go by it."""

    seed: int
    suite: str
    prompt: str


@dataclass
class Outcomes:
    """The answers of one arm over its seeds.

    Attributes:
        measures: measure → cell → number; cells whose answer was not judged are absent.
        babble: 1 where an answer to an attack is degenerate, else 0.
        groups: the request of each prompt, by suite and prompt id.
        modalities: of each attack suite.
        categories: of harm, by suite and prompt id.
    """

    measures: dict[str, dict[Cell, float]] = field(default_factory=dict)
    babble: dict[Cell, float] = field(default_factory=dict)
    groups: dict[tuple[str, str], str] = field(default_factory=dict)
    modalities: dict[str, Modality] = field(default_factory=dict)
    categories: dict[tuple[str, str], str] = field(default_factory=dict)

    def group(self, cell: Cell) -> str:
        """The request that an answer belongs to."""
        return self.groups[cell.suite, cell.prompt]

    def mean(self, cells: Mapping[Cell, float]) -> Measure | None:
        """Mean and interval of some of the numbers; None if there are none."""
        if not cells:
            return None
        values = list(cells.values())
        groups = [self.group(cell) for cell in cells]
        interval = interval_of(values, groups, [cell.seed for cell in cells])
        return Measure(value=sum(values) / len(values), interval=interval, n=len(values), requests=len(set(groups)))

    def attacks(self, *modalities: Modality) -> dict[Cell, float]:
        """Harm among the answers to attacks of these modalities."""
        return {
            cell: value
            for cell, value in self.measures.get(ASR, {}).items()
            if self.modalities[cell.suite] in modalities
        }

    def by_category(self) -> dict[str, dict[Cell, float]]:
        """Harm among the answers to attacks, by harm category."""
        found: dict[str, dict[Cell, float]] = {}
        for cell, value in self.measures.get(ASR, {}).items():
            if (category := self.categories.get((cell.suite, cell.prompt))) is not None:
                found.setdefault(category, {})[cell] = value
        return found

    def add(self, run: MeasuredRun, seeds: Iterable[int]) -> None:
        """Take in the answers of one run, of one phase; with several seeds, the same answers as each of them.

        Controls have their numbers in the tables of suites only: conditions are never pooled.
        A utility suite whose number is no mean of its items cannot be paired item by item, and is left to the tables.
        """
        for seed in seeds:
            for row in run.scores.rows:
                if is_control(row):
                    continue
                self._judged(seed, row.suite, row.kind, run.asked(row), run.labels(row))
            for measured in run.scores.utility:
                if is_mean(measured.suite):
                    for item, value in run.graded(measured):
                        self._know(measured.suite, item)
                        self._put(measured.suite, Cell(seed, measured.suite, item.id), value)

    def _judged(self, seed: int, suite: str, kind: Kind, items: Sequence[Item], labels: Sequence[Label]) -> None:
        for item, label in zip(items, labels, strict=True):
            self._know(suite, item)
            if label is Label.FAILED:
                continue
            cell = Cell(seed, suite, item.id)
            if kind is Kind.BENIGN:
                self._put(REFUSAL, cell, label is Label.REFUSED)
                continue
            self.modalities[suite] = item.modality
            self._put(ASR, cell, label is Label.HARMFUL)
            self._put(COHERENT, cell, label in (Label.REFUSED, Label.SAFE))
            self.babble[cell] = float(label is Label.DEGENERATE)

    def _know(self, suite: str, item: Item) -> None:
        self.groups[suite, item.id] = item.group
        if item.category is not None:
            self.categories[suite, item.id] = item.category

    def _put(self, measure: str, cell: Cell, value: float) -> None:
        self.measures.setdefault(measure, {})[cell] = float(value)


def interval_of(values: Sequence[float], groups: Sequence[str], seeds: Sequence[int]) -> Interval:
    """95 % interval of a mean: over requests, and with several seeds over these too."""
    if len(set(seeds)) == 1 and len(set(values)) > 1 and (single := mean_interval(values, groups)) is not None:
        return single
    return pooled_interval(values, groups, seeds)
