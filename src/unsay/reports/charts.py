"""What the charts show: marks on a scale from 0 to 100, which the template draws as SVG, and training curves.

Hand-made SVG follows the page's light and dark colours and stretches to any width while its text stays readable;
a plotting library's picture does neither.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from unsay.errors import UserError
from unsay.files import read_text
from unsay.records import Condition, Kind, Label, Modality, Phase
from unsay.reports import numbers
from unsay.scoring import Change, Scores, SeparationRow, SuiteRow, UtilityChange, UtilityRow
from unsay.scoring.subsets import by_subset, is_control, subset_of

ORDER = (Label.REFUSED, Label.SAFE, Label.HARMFUL, Label.DEGENERATE, Label.FAILED)
GROUP_NAMES = {
    Modality.TEXT: "Text",
    Modality.TYPOGRAPHIC: "Typographic: the request is pixels",
    Modality.IMAGE: "Image: a picture matters",
}
HARMLESS = {"borderline": "alarming", "ordinary": "ordinary"}
"""How harmless requests are called for people."""
CURVE_TITLES = {
    "forget_ce": "Loss on harmful answers (meant to rise)",
    "refuse_ce": "Loss on safe answers (meant to fall)",
    "probe_kl": "KL on held-out normal answers (meant to stay low)",
    "forget_loss": "Forget: term of the loss (meant to fall)",
    "refuse_loss": "Refuse: term of the loss (meant to fall)",
    "retain_loss": "Retain: term of the loss (meant to stay low)",
    "decision_loss": "Retain: term at the first answer token",
    "loss": "Total loss",
}
"""Numbers that most methods write; others are shown under their own name."""
HOUSEKEEPING = ("lr", "learning_rate", "seconds", "time", "elapsed", "epoch", "grad_norm", "memory", "tokens")
NOT_CURVES = ("step", "seed")
MAX_POINTS = 400


@dataclass(frozen=True)
class Mark:
    """One measured value; positions are in per cent of the scale, 0 to 100."""

    x: float
    low: float
    high: float
    text: str
    span: str


@dataclass(frozen=True)
class DotRow:
    """One line of a before/after chart."""

    title: str
    note: str
    before: Mark | None
    after: Mark | None
    change: str  # difference and test, in words; empty when there is only one phase

    @property
    def spoken(self) -> str:
        """The row in one sentence, for readers who cannot see the chart."""
        phases = [
            f"{name} {mark.text}" + (f" (95% interval {mark.span})" if mark.span else "")
            for name, mark in (("before", self.before), ("after", self.after))
            if mark is not None
        ]
        return f"{self.title}: {', '.join(phases)}" if phases else f"{self.title}: not measured"


@dataclass(frozen=True)
class DotGroup:
    """Lines under one subheading."""

    name: str
    rows: tuple[DotRow, ...]


@dataclass(frozen=True)
class Segment:
    """One label's share of a bar: start and width in per cent."""

    label: str
    start: float
    width: float
    count: int


@dataclass(frozen=True)
class Bar:
    """The labels of one suite's answers in one phase."""

    phase: str
    segments: tuple[Segment, ...]
    coherent: str  # coherent safety with its interval, attacks only

    @property
    def spoken(self) -> str:
        """The bar in words."""
        return f"{self.phase}: " + ", ".join(f"{part.count} {part.label}" for part in self.segments if part.count)


@dataclass(frozen=True)
class BarGroup:
    """The bars of one suite."""

    title: str
    bars: tuple[Bar, ...]


def suite_groups(scores: Scores, kind: Kind) -> tuple[DotGroup, ...]:
    """Before/after lines of every suite of one kind, grouped by modality, and controls by condition."""
    groups = []
    for modality, condition in product(Modality, Condition):
        rows = [row for row in scores.rows if (row.kind, row.modality, row.condition) == (kind, modality, condition)]
        lines = tuple(_suite_line(scores, suite, rows) for suite in dict.fromkeys(row.suite for row in rows))
        if lines:
            groups.append(DotGroup(GROUP_NAMES[modality] + (f", {condition}" if is_control(rows[0]) else ""), lines))
    return tuple(groups)


def _suite_line(scores: Scores, suite: str, rows: Sequence[SuiteRow]) -> DotRow:
    phases = {row.phase: row for row in rows if row.suite == suite}
    first = next(iter(phases.values()))
    changes = (change for change in scores.changes if subset_of(change) == subset_of(first))
    return DotRow(
        title=first.title,
        note=f"n = {numbers.part(first.n, scores.whole(suite, first.n))}"
        + (f", {first.unique} distinct" if first.unique < first.n else ""),
        before=_suite_mark(phases.get(Phase.BEFORE)),
        after=_suite_mark(phases.get(Phase.AFTER)),
        change=_change_words(next(changes, None)),
    )


def _suite_mark(row: SuiteRow | None) -> Mark | None:
    if row is None or row.rate is None or row.interval is None:
        return None
    return Mark(
        x=row.rate * 100,
        low=row.interval.low * 100,
        high=row.interval.high * 100,
        text=numbers.percent(row.rate),
        span=numbers.span(row.interval),
    )


def _change_words(change: Change | UtilityChange | None) -> str:
    if change is None or change.difference is None:
        return ""
    return f"{numbers.paired(change)}, p {_p_words(change.p)}"


def _p_words(p: float) -> str:
    text = numbers.p_value(p)
    return text if text.startswith("<") else f"= {text}"


def separation_rows(scores: Scores) -> tuple[DotRow, ...]:
    """Before/after lines of separation, from 0 to 1."""
    phases: dict[tuple[str, str], dict[Phase, SeparationRow]] = {}
    for row in scores.separation:
        phases.setdefault((row.form, row.against), {})[row.phase] = row
    changes: dict[tuple[str, str], str] = {
        (change.form, change.against): numbers.area_change(change) for change in scores.separation_changes
    }
    lines = []
    for key, of in phases.items():
        form, against = key
        first = next(iter(of.values()))
        few = ", too few requests" if any(row.value is None for row in of.values()) else ""
        lines.append(
            DotRow(
                title=f"Harmful and {HARMLESS[against]} requests, in {form}",
                note=f"n = {first.harmful:,} and {first.harmless:,}{few}",
                before=_separation_mark(of.get(Phase.BEFORE)),
                after=_separation_mark(of.get(Phase.AFTER)),
                change=changes.get(key, ""),
            )
        )
    return tuple(lines)


def _separation_mark(row: SeparationRow | None) -> Mark | None:
    if row is None or row.value is None or row.interval is None:
        return None
    low, high = row.interval.low, row.interval.high
    span = f"{numbers.area(low)}{numbers.DASH}{numbers.area(high)}"
    return Mark(x=row.value * 100, low=low * 100, high=high * 100, text=numbers.area(row.value), span=span)


def utility_rows(scores: Scores) -> tuple[DotRow, ...]:
    """Before/after lines of the utility suites; rates on 0 to 100 %, others from 0 to their largest value."""
    changes = {change.suite: change for change in scores.utility_changes}
    lines = []
    for suite, phases in by_suite(scores.utility).items():
        first = next(iter(phases.values()))
        top = 1.0
        if first.unit != "rate":
            top = 1.1 * max(
                max(row.value or 0.0, row.interval.high if row.interval else 0.0) for row in phases.values()
            )
        better = "higher" if first.higher_is_better else "lower"
        unit = "" if first.unit == "rate" else f"{first.unit}, "
        paired = changes.get(suite)
        lines.append(
            DotRow(
                title=first.title,
                note=f"{unit}{better} is better, n = {numbers.part(first.n, scores.whole(first.suite, first.n))}",
                before=_utility_mark(phases.get(Phase.BEFORE), top),
                after=_utility_mark(phases.get(Phase.AFTER), top),
                change=_unpaired_words(phases) if paired is None else _change_words(paired),
            )
        )
    return tuple(lines)


def by_suite(rows: Iterable[UtilityRow]) -> dict[str, dict[Phase, UtilityRow]]:
    """The phases of every utility suite, in order of first appearance."""
    suites: dict[str, dict[Phase, UtilityRow]] = {}
    for row in rows:
        suites.setdefault(row.suite, {})[row.phase] = row
    return suites


def _unpaired_words(phases: dict[Phase, UtilityRow]) -> str:
    """The difference of the two numbers, where items were not compared one by one."""
    before, after = (phases.get(phase) for phase in Phase)
    if before is None or after is None or before.value is None or after.value is None:
        return ""
    change = numbers.change(after.value - before.value, after.unit)
    return f"{change} {'points' if after.unit == 'rate' else after.unit}, not compared item by item"


def _utility_mark(row: UtilityRow | None, top: float) -> Mark | None:
    if row is None or row.value is None:
        return None

    def place(value: float) -> float:
        return min(100.0, max(0.0, value / top * 100)) if top > 0 else 0.0

    low, high = (row.interval.low, row.interval.high) if row.interval else (row.value, row.value)
    return Mark(
        x=place(row.value),
        low=place(low),
        high=place(high),
        text=numbers.measure(row, row.value),
        span=numbers.measure_span(row),
    )


def bar_groups(scores: Scores) -> tuple[BarGroup, ...]:
    """The five labels of every suite as shares of all its answers, unjudged ones included."""
    groups = [list(phases.values()) for phases in by_subset(row for row in scores.rows if row.n).values()]
    return tuple(BarGroup(rows[0].title, tuple(map(_bar, rows))) for rows in groups)


def _bar(row: SuiteRow) -> Bar:
    segments, start = [], 0.0
    for label in ORDER:
        size = int(getattr(row, label.value))
        width = size / row.n * 100
        segments.append(Segment(label.value, start, width, size))
        start += width
    coherent = ""
    if row.coherent_safety is not None:
        coherent = f"{numbers.percent(row.coherent_safety)} [{numbers.span(row.coherent_interval)}]"
    return Bar(row.phase.value, tuple(segments), coherent)


@dataclass(frozen=True)
class Panel:
    """One curve. `path` is an SVG path of x and y from 0 to 100, y downwards."""

    key: str
    title: str
    path: str
    low: str
    high: str
    first_step: str
    last_step: str
    last: str
    dot: tuple[float, float]
    main: bool  # false for housekeeping numbers, which the page folds away


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Rows of a metrics file, without a last line that a kill cut off; none if there is no file."""
    text = read_text(path) if path.exists() else ""
    lines = [(number, line) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]
    rows: list[dict[str, Any]] = []
    for number, line in lines:
        try:
            row = json.loads(line)
        except json.JSONDecodeError as error:
            if number == lines[-1][0]:
                break
            raise UserError(f"{path}:{number}: not JSON: {error.msg}") from None
        if not isinstance(row, dict):
            raise UserError(f"{path}:{number}: a row of metrics must be an object like {{'step': 1, ...}}")
        rows.append(row)
    return rows


def panels(rows: Sequence[Mapping[str, Any]]) -> tuple[Panel, ...]:
    """A panel for every numeric key that has at least two points; known losses first, housekeeping last."""
    series: dict[str, list[tuple[float, float]]] = {}
    for index, row in enumerate(rows):
        step = row.get("step", index)
        x = float(step) if numbers.is_number(step) else float(index)
        for key, value in row.items():
            if key not in NOT_CURVES and numbers.is_number(value):
                series.setdefault(key, []).append((x, float(value)))
    known = list(CURVE_TITLES)

    def rank(panel: Panel) -> tuple[bool, int]:
        return not panel.main, known.index(panel.key) if panel.key in known else len(known)

    return tuple(sorted((_panel(key, points) for key, points in series.items() if len(points) > 1), key=rank))


def _panel(key: str, points: list[tuple[float, float]]) -> Panel:
    points = sorted(points, key=lambda point: point[0])
    stride = max(1, math.ceil(len(points) / MAX_POINTS))
    shown = points[::stride]
    if shown[-1] != points[-1]:
        shown.append(points[-1])
    left, right = points[0][0], points[-1][0]
    low, high = min(y for _, y in points), max(y for _, y in points)

    def place(point: tuple[float, float]) -> tuple[float, float]:
        x = (point[0] - left) / (right - left) * 100 if right > left else 50.0
        y = 100 - (point[1] - low) / (high - low) * 100 if high > low else 50.0
        return x, y

    path = " ".join(f"{'L' if index else 'M'}{x:.2f} {y:.2f}" for index, (x, y) in enumerate(map(place, shown)))
    return Panel(
        key=key,
        title=CURVE_TITLES.get(key, key.replace("_", " ").replace("/", ": ")),
        path=path,
        low=numbers.plain(low),
        high=numbers.plain(high),
        first_step=numbers.plain(left) if left < 1000 else f"{left:,.0f}",
        last_step=f"{right:,.0f}",
        last=numbers.plain(points[-1][1]),
        dot=place(points[-1]),
        main=not any(key == word or key.endswith(f"_{word}") for word in HOUSEKEEPING),
    )
