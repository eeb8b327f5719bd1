"""The trade-offs as points: attack success against what it costs, in units of an SVG's view box."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from unsay.reporting import numbers
from unsay.study.schema import ASR, REFUSAL, ArmRow, Measure, StudyResult
from unsay.study.settings import ORIGINAL
from unsay.study.words import babbles, is_rate, label, span, value

WIDTH, HEIGHT = 560.0, 400.0
LEFT, RIGHT, TOP, BOTTOM = 58.0, 18.0, 16.0, 46.0
"""Room around the plot for the axes."""
STEPS = (0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 20.0, 50.0, 100.0)
AROUND = [(math.cos(math.pi * part / 8), math.sin(math.pi * part / 8)) for part in (15, 1, 7, 9, 11, 13, 3, 5)]
"""Where a point's number may stand, the best place first."""


@dataclass(frozen=True)
class Point:
    """One arm; all positions in units of the view box."""

    number: int
    name: str
    kind: str
    """`text`, `pictures` or `original`: decides the colour."""
    x: float
    y: float
    left: float
    right: float
    top: float
    bottom: float
    number_x: float
    number_y: float
    hollow: bool
    """Its answers are partly babble."""
    spoken: str


@dataclass(frozen=True)
class Tick:
    """A line of the grid."""

    at: float
    text: str


@dataclass(frozen=True)
class Tradeoff:
    """One plot."""

    title: str
    y_title: str
    points: tuple[Point, ...]
    x_ticks: tuple[Tick, ...]
    y_ticks: tuple[Tick, ...]
    front: str
    """SVG path through the arms that no other arm beats on both axes; those that babble are left out."""
    beyond: tuple[str, ...]
    """Arms that lie outside, in words: the untrained model, mostly."""


@dataclass(frozen=True)
class _Scale:
    low: float
    high: float
    start: float
    end: float

    def at(self, number: float) -> float:
        share = (min(self.high, max(self.low, number)) - self.low) / (self.high - self.low)
        return self.start + share * (self.end - self.start)


def tradeoffs(result: StudyResult) -> tuple[Tradeoff, ...]:
    """Attack success against over-refusal, and against each utility measure; arms are numbered in the page's order."""
    names = [name for name in result.measures if name == REFUSAL or name in result.units]
    return tuple(plot for name in names if (plot := _tradeoff(result, name)) is not None)


def _tradeoff(result: StudyResult, measure: str) -> Tradeoff | None:
    arms = [
        (number, arm, arm.measures[ASR], arm.measures[measure])
        for number, arm in enumerate(result.arms, start=1)
        if ASR in arm.measures and measure in arm.measures
    ]
    trained = [row for row in arms if row[1].arm != ORIGINAL] or arms
    if not trained:
        return None
    rate, higher = is_rate(result, measure), measure in result.higher_is_better
    # Axes fit the trained arms: the untrained model is far off, and would press all others into a corner.
    x_axis = _Scale(*_range([x for _, _, x, _ in trained], True), LEFT, WIDTH - RIGHT)
    y_axis = _Scale(*_range([y for _, _, _, y in trained], rate), HEIGHT - BOTTOM, TOP)
    inside, beyond = [], []
    for number, arm, x, y in arms:
        if x_axis.low <= x.value <= x_axis.high and y_axis.low <= y.value <= y_axis.high:
            inside.append((number, arm, x, y))
        else:
            where = f"{label(result, arm)} lies outside: attack success {value(result, ASR, x)}"
            beyond.append(f"{where}, {result.measures[measure].lower()} {value(result, measure, y)}.")
    places = _numbers_beside([(x_axis.at(x.value), y_axis.at(y.value)) for _, _, x, y in inside])
    points = tuple(
        Point(
            number=number,
            name=label(result, arm),
            kind=_kind(arm),
            x=x_axis.at(x.value),
            y=y_axis.at(y.value),
            left=x_axis.at(x.interval.low),
            right=x_axis.at(x.interval.high),
            top=y_axis.at(y.interval.high),
            bottom=y_axis.at(y.interval.low),
            number_x=place[0],
            number_y=place[1],
            hollow=babbles(result, arm),
            spoken=f"{label(result, arm)}: attack success {value(result, ASR, x)} ({span(result, ASR, x)}), "
            f"{result.measures[measure].lower()} {value(result, measure, y)} ({span(result, measure, y)})",
        )
        for (number, arm, x, y), place in zip(inside, places, strict=True)
    )
    unit = "" if rate else f", {result.units[measure]}"
    return Tradeoff(
        title=f"Attack success and {result.measures[measure].lower()}",
        y_title=f"{result.measures[measure]}{unit} ({'higher' if higher else 'lower'} is better)",
        points=points,
        x_ticks=_ticks(x_axis, True),
        y_ticks=_ticks(y_axis, rate),
        front=_front([(point.x, point.y) for point in points if not point.hollow], up=higher),
        beyond=tuple(beyond),
    )


def _kind(arm: ArmRow) -> str:
    if arm.arm == ORIGINAL:
        return "original"
    return "pictures" if arm.cost is not None and arm.cost.image_tokens else "text"


def _range(measures: Sequence[Measure], rate: bool) -> tuple[float, float]:
    """Round limits around all intervals; a rate's never leave 0 to 1, and a range always has some width."""
    low, high = min(m.interval.low for m in measures), max(m.interval.high for m in measures)
    width = max(high - low, 0.05 if rate else 1e-3)
    step = next((step for step in STEPS if width / step <= 6), STEPS[-1])
    floor, ceiling = math.floor(low / step) * step, math.ceil(high / step) * step
    if rate:
        floor, ceiling = max(0.0, floor), min(1.0, ceiling)
    return (floor, ceiling) if ceiling - floor >= step else (floor, floor + step)


def _ticks(axis: _Scale, rate: bool) -> tuple[Tick, ...]:
    width = axis.high - axis.low
    step = next((step for step in STEPS if width / step <= 6.001), STEPS[-1])
    count = math.floor(width / step + 1e-9)
    values = [axis.low + step * index for index in range(count + 1)]
    return tuple(Tick(axis.at(at), numbers.percent(at, 0) if rate else numbers.plain(at)) for at in values)


def _numbers_beside(points: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """A place for each point's number, away from the points and from each other as far as there is room."""
    taken = list(points)
    places = []
    for x, y in points:
        candidates = [(x + far * dx, y + far * dy) for far in (15.0, 26.0, 38.0) for dx, dy in AROUND]
        fit = [(a, b) for a, b in candidates if LEFT + 8 <= a <= WIDTH - 8 and 8 <= b <= HEIGHT - BOTTOM - 4]
        free = [p for p in fit if all(math.dist(p, q) >= (13.0 if q in points else 17.0) for q in taken)]
        place = (free or sorted(fit, key=lambda p: -min(math.dist(p, q) for q in taken)) or candidates)[0]
        taken.append(place)
        places.append(place)
    return places


def _front(points: Sequence[tuple[float, float]], *, up: bool) -> str:
    """Stairs through the points that none other beats on both axes; the page's y grows downwards."""
    best, stairs = math.inf, []
    for x, y in sorted(points, key=lambda point: (point[0], point[1] if up else -point[1])):
        height = y if up else -y
        if height < best:
            stairs.append((x, y))
            best = height
    if len(stairs) < 2:
        return ""
    path = f"M{stairs[0][0]:.1f} {stairs[0][1]:.1f}"
    for x, y in stairs[1:]:
        path += f" H{x:.1f} V{y:.1f}"
    return path
