"""The page of a study and the picture of its trade-offs.

One self-contained HTML page from `study.json`.

The trade-offs as points: attack success against what it costs, in units of an SVG's view box.

The trade-offs as one picture that stands beside a page: an SVG file that brings its own style.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from unsay.files import write_text
from unsay.reports import numbers
from unsay.reports.html import flatten
from unsay.studies import words
from unsay.studies.schema import ASR, COHERENT, REFUSAL, ArmRow, Measure, Ranking, StudyResult
from unsay.studies.settings import ORIGINAL
from unsay.studies.words import babbles, is_rate, label, span, value

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


def write_page(path: Path, result: StudyResult) -> Path:
    """Write the page, atomically, and return its path."""
    write_text(path, render(result))
    return path


def templates() -> Environment:
    """The templates of this package and of reports, with what they format numbers with."""
    environment = Environment(
        # The stylesheet and the script are those of a run's report.
        loader=ChoiceLoader([PackageLoader("unsay.studies", "."), PackageLoader("unsay.reports", ".")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": numbers.percent,
        "span": numbers.span,
        "count": numbers.count,
        "flops": numbers.flops,
        "memory": numbers.memory,
        "seconds": numbers.seconds,
        "p_value": numbers.p_value,
    }
    return environment


def render(result: StudyResult) -> str:
    """The page as text: numbers and names alone, no prompt and no answer; nothing is loaded from anywhere."""
    order = {arm.name: number for number, arm in enumerate(result.arms, start=1)}
    categories = tuple(dict.fromkeys(row.category for row in result.categories))
    page = (
        templates()
        .get_template("study.html.j2")
        .render(
            result=result,
            words=words,
            rules=words.RULES,
            order=order,
            findings=words.findings(result),
            failures=words.failures(result),
            babblers=words.babblers(result),
            plots=tradeoffs(result),
            width=WIDTH,
            height=HEIGHT,
            axis=LEFT,
            utility=[name for name in result.measures if name in result.units],
            compared=[name for name in result.measures if name != ASR],
            rows_against=lambda ranking: _against(result, ranking),
            categories=categories,
            by_category={(row.arm, row.category): row for row in result.categories},
            original=ORIGINAL,
            coherent=COHERENT,
            asr=ASR,
            judge=result.judge.headline(),
            environment=flatten(result.environment),
        )
    )
    return page.strip() + "\n"


def _against(result: StudyResult, ranking: Ranking) -> list[tuple[ArmRow, dict[str, tuple[str, str, str]]]]:
    """Each arm's differences from the reference: measure → (difference, corrected p, verdict)."""
    rows = []
    for place in ranking.places:
        cells = {}
        for measure in result.measures:
            pair = words.against(result, ranking, place.arm, measure)
            if pair is not None:
                cells[measure] = (
                    words.difference_words(result, pair, place.arm),
                    numbers.p_value(pair.p_holm),
                    words.verdict(pair, place.arm),
                )
        if cells:
            rows.append((result.find(place.arm), cells))
    return rows


COLUMNS, KEY_COLUMNS = 2, 3
GAP, TITLE, LINE, MARGIN = 28.0, 40.0, 22.0, 14.0
"""Between plots, above each for its title, of one line of the key, and around all of it."""


class Entry(NamedTuple):
    """One arm in the key below the plots."""

    number: int
    name: str
    kind: str
    hollow: bool
    x: float
    y: float


def figure(result: StudyResult) -> str | None:
    """All trade-offs of a study, each with its intervals, and a key of their numbers; None without a point."""
    plots = tradeoffs(result)
    if not plots:
        return None
    columns = min(COLUMNS, len(plots))
    rows = -(-len(plots) // columns)
    places = [
        (MARGIN + column * (WIDTH + GAP), TITLE + row * (HEIGHT + TITLE))
        for row in range(rows)
        for column in range(columns)
    ]
    width = 2 * MARGIN + columns * WIDTH + (columns - 1) * GAP
    key = _key(plots, width, rows * (HEIGHT + TITLE) + LINE)
    page = (
        templates()
        .get_template("figure.svg.j2")
        .render(
            result=result,
            plots=plots,
            places=places,
            key=key,
            width=WIDTH,
            height=HEIGHT,
            axis=LEFT,
            total_width=width,
            total_height=max(entry.y for entry in key) + MARGIN,
        )
    )
    return page.strip() + "\n"


def _key(plots: tuple[Tradeoff, ...], width: float, top: float) -> list[Entry]:
    """Every arm that is a point somewhere, by number, in columns."""
    points = {point.number: point for plot in plots for point in plot.points}
    columns = min(KEY_COLUMNS, int(width // 300))
    rows = -(-len(points) // columns)
    return [
        Entry(
            number,
            points[number].name,
            points[number].kind,
            points[number].hollow,
            MARGIN + index // rows * (width - 2 * MARGIN) / columns,
            top + index % rows * LINE,
        )
        for index, number in enumerate(sorted(points))
    ]
