"""The trade-off figure of a study: attack success against what it costs, drawn by matplotlib as SVG.

The SVG brings its own style and no other file. It follows a reader's light or dark scheme, and its text stays text.
"""

import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape, quoteattr

from unsay.reports import numbers
from unsay.studies.schema import ASR, REFUSAL, ArmRow, Measure, StudyResult
from unsay.studies.settings import ORIGINAL
from unsay.studies.words import babbles, is_rate, label, span, value

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PANEL = 560, 410
"""Width and height of a panel, in px."""
MARGINS = 62, 18, 42, 48
"""Room in a panel on the left, on the right, above and below the axes."""
LINE, COLUMNS = 21, 2
"""Height of a line of the key, and panels side by side."""

COLOURS = {
    "paper": ("#fbfaf7", "#131618"),
    "ink": ("#1c2024", "#e9e6e0"),
    "muted": ("#5c636b", "#9aa1a8"),
    "grid": ("#ebe8e1", "#262b2f"),
    "text": ("#0b6a6a", "#5cc4bb"),
    "pictures": ("#8f6312", "#d9a441"),
    "original": ("#736d64", "#a29c92"),
    "hollow": ("#b3261e", "#ff8b80"),
}
"""Name → colour in the light scheme, which is drawn with, and in the dark one, which replaces it."""

STYLE: dict[Any, Any] = {
    "text.parse_math": False,
    "svg.fonttype": "none",
    "font.family": "DejaVu Sans",
    "font.size": 13,
    "text.color": COLOURS["muted"][0],
    "axes.labelcolor": COLOURS["muted"][0],
    "xtick.color": COLOURS["muted"][0],
    "ytick.color": COLOURS["muted"][0],
    "axes.titlecolor": COLOURS["ink"][0],
    "grid.color": COLOURS["grid"][0],
    "figure.facecolor": COLOURS["paper"][0],
    "axes.facecolor": "none",
}

CSS = """.tradeoffs {{ {} }}
@media (prefers-color-scheme: dark) {{ .tradeoffs {{ {} }} }}
.tradeoffs * {{ stroke-linejoin: round; }}
.tradeoffs text {{ font-family: system-ui, "Segoe UI", Helvetica, Arial, sans-serif; }}
.tradeoffs [id^=number] text {{ paint-order: stroke; stroke: var(--figure-paper); stroke-width: 3px; }}
"""
"""With places for the colours of the light and of the dark scheme; a number stays readable on the bars of others."""

STEPS = (1, 2, 2.5, 5, 10)
"""Round distances between grid lines."""


@dataclass(frozen=True)
class Point:
    """One arm."""

    number: int  # its place in the page's order
    name: str
    kind: str  # `text`, `pictures` or `original`: decides the colour
    x: Measure  # attack success
    y: Measure  # the other measure
    hollow: bool  # whether its answers are partly babble
    spoken: str  # the point in words


@dataclass(frozen=True)
class Tradeoff:
    """Attack success against one other measure."""

    measure: str
    title: str  # what the panel shows
    y_title: str  # title of the measure, with its unit and direction
    points: tuple[Point, ...]  # arms that lie inside the limits
    limits: tuple[tuple[float, float], tuple[float, float]]  # of x and y
    # points that no other arm beats on both axes, from left to right; arms that babble are left out
    front: tuple[tuple[float, float], ...]
    beyond: tuple[str, ...]  # arms that lie outside the limits, in words: the original model, or one that babbles


def tradeoffs(result: StudyResult) -> tuple[Tradeoff, ...]:
    """Attack success against over-refusal, and against each utility measure; arms are numbered in the page's order."""
    names = [name for name in result.measures if name == REFUSAL or name in result.units]
    return tuple(tradeoff for name in names if (tradeoff := _tradeoff(result, name)) is not None)


def _tradeoff(result: StudyResult, measure: str) -> Tradeoff | None:
    rows = [
        (number, arm) for number, arm in enumerate(result.arms, 1) if ASR in arm.measures and measure in arm.measures
    ]
    if not rows:
        return None
    # Limits fit the trained arms: the original model is far off, and would press all others into a corner. So would the
    # loss of an arm that babbles, which knows no bounds.
    trained = [arm for _, arm in rows if arm.arm != ORIGINAL] or [arm for _, arm in rows]
    coherent = [arm for arm in trained if not babbles(result, arm)] or trained
    rate, higher = is_rate(result, measure), measure in result.higher_is_better
    x_limits = _limits([arm.measures[ASR] for arm in trained], rate=True)
    y_limits = _limits([arm.measures[measure] for arm in (trained if rate else coherent)], rate=rate)
    title = result.measures[measure].lower()
    points: list[Point] = []
    beyond: list[str] = []
    for number, arm in rows:
        x, y = arm.measures[ASR], arm.measures[measure]
        if x_limits[0] <= x.value <= x_limits[1] and y_limits[0] <= y.value <= y_limits[1]:
            spoken = (
                f"{label(result, arm)}: attack success {value(result, ASR, x)} ({span(result, ASR, x)}), "
                f"{title} {value(result, measure, y)} ({span(result, measure, y)})"
            )
            points.append(Point(number, label(result, arm), _kind(arm), x, y, babbles(result, arm), spoken))
        else:
            where = f"{label(result, arm)} lies outside: attack success {value(result, ASR, x)}"
            beyond.append(f"{where}, {title} {value(result, measure, y)}.")
    unit = "" if rate else f", {result.units[measure]}"
    return Tradeoff(
        measure=measure,
        title=f"Attack success and {title}",
        y_title=f"{result.measures[measure]}{unit} ({'higher' if higher else 'lower'} is better)",
        points=tuple(points),
        limits=(x_limits, y_limits),
        front=_front([(point.x.value, point.y.value) for point in points if not point.hollow], higher),
        beyond=tuple(beyond),
    )


def _kind(arm: ArmRow) -> str:
    if arm.arm == ORIGINAL:
        return "original"
    return "pictures" if arm.cost is not None and arm.cost.image_tokens else "text"


def _limits(measures: Sequence[Measure], *, rate: bool) -> tuple[float, float]:
    """Round limits around all intervals; a rate's are within 0 to 1."""
    from matplotlib.ticker import MaxNLocator

    low, high = min(m.interval.low for m in measures), max(m.interval.high for m in measures)
    middle, width = (low + high) / 2, max(high - low, 0.05 if rate else 1e-3)
    ticks = MaxNLocator(6, steps=STEPS).tick_values(middle - width / 2, middle + width / 2)
    first, last = float(ticks[0]), float(ticks[-1])
    return (max(0.0, first), min(1.0, last)) if rate else (first, last)


def _front(points: Sequence[tuple[float, float]], higher: bool) -> tuple[tuple[float, float], ...]:
    """The points that no other beats on both axes, from left to right."""
    best, front = -math.inf, []
    for x, y in sorted(points, key=lambda point: (point[0], -point[1] if higher else point[1])):
        if (gain := y if higher else -y) > best:
            front.append((x, y))
            best = gain
    return tuple(front)


def figure(result: StudyResult, measure: str | None = None) -> str | None:
    """The trade-offs as SVG: all with a key of the arms' numbers, or one measure's alone; None without a point."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    panels = [tradeoff for tradeoff in tradeoffs(result) if measure in (None, tradeoff.measure)]
    if not panels:
        return None
    columns = min(COLUMNS, len(panels))
    rows = math.ceil(len(panels) / columns)
    points = {point.number: point for panel in panels for point in panel.points} if measure is None else {}
    key_columns = 3 if columns > 1 else 1
    width = columns * PANEL[0]
    height = rows * PANEL[1] + (LINE * (math.ceil(len(points) / key_columns) + 1) if points else 0)
    left, right, above, below = MARGINS
    with rc_context({**STYLE, "svg.hashsalt": f"unsay {measure}"}):
        canvas = Figure(figsize=(width / 72, height / 72))
        for index, panel in enumerate(panels):
            x, y = index % columns * PANEL[0], height - (index // columns + 1) * PANEL[1]
            box = (x + left, y + below, PANEL[0] - left - right, PANEL[1] - above - below)
            axes = canvas.add_axes((box[0] / width, box[1] / height, box[2] / width, box[3] / height))
            _draw(axes, panel, rate=is_rate(result, panel.measure))
        if points:
            _draw_key(canvas, [points[number] for number in sorted(points)], key_columns)
        text = io.StringIO()
        canvas.savefig(text, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))
    spoken = {f"point-{panel.measure}-{point.number}": point.spoken for panel in panels for point in panel.points}
    words = ". ".join([*(panel.title for panel in panels), *(spoken.values() if measure is not None else ())])
    return _styled(text.getvalue(), words, spoken)


def _draw(axes: "Axes", panel: Tradeoff, *, rate: bool) -> None:
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axes.set_xlim(*panel.limits[0])
    axes.set_ylim(*panel.limits[1])
    for axis, is_percent in ((axes.xaxis, True), (axes.yaxis, rate)):
        axis.set_major_locator(MaxNLocator(6, steps=STEPS))
        show = (lambda at, _: numbers.percent(at, 0)) if is_percent else (lambda at, _: numbers.plain(at))
        axis.set_major_formatter(FuncFormatter(show))
    axes.grid(True, linewidth=1)
    axes.set_axisbelow(True)
    axes.tick_params(length=0, pad=7)
    for spine in axes.spines.values():
        spine.set_visible(False)
    axes.set_title(panel.y_title, loc="left", fontsize=15, fontweight="bold", pad=10)
    axes.set_xlabel("Attack success, all attacks (lower is better)", loc="right")
    if len(panel.front) > 1:
        (stairs,) = axes.step(*zip(*panel.front, strict=True), where="post", linewidth=1.2, linestyle=(0, (3, 4)))
        stairs.set(color=COLOURS["muted"][0], gid=f"front-{panel.measure}")
    for point in panel.points:
        _draw_bars(axes, panel, point)
    places = _number_places(axes, panel.points)
    for point, place in zip(panel.points, places, strict=True):
        colour, edge, fill = _colours(point)
        (dot,) = axes.plot(point.x.value, point.y.value, "o", markersize=9, markeredgewidth=1.5, clip_on=False)
        dot.set(markeredgecolor=edge, markerfacecolor=fill, gid=f"point-{panel.measure}-{point.number}", zorder=4)
        number = axes.annotate(str(point.number), (point.x.value, point.y.value), place, textcoords="offset points")
        number.set(color=colour, fontsize=14, fontweight="bold", ha="center", va="center_baseline", zorder=5)
        number.set_gid(f"number-{panel.measure}-{point.number}")


def _draw_bars(axes: "Axes", panel: Tradeoff, point: Point) -> None:
    """Both intervals of a point, within the limits of the panel."""
    style: dict[str, Any] = {
        "color": COLOURS[point.kind][0],
        "linewidth": 1.5,
        "alpha": 0.45,
        "solid_capstyle": "round",
    }
    (x_low, x_high), (y_low, y_high) = (
        (max(limits[0], measure.interval.low), min(limits[1], measure.interval.high))
        for limits, measure in zip(panel.limits, (point.x, point.y), strict=True)
    )
    axes.plot([x_low, x_high], [point.y.value] * 2, gid=f"x-bar-{panel.measure}-{point.number}", **style)
    axes.plot([point.x.value] * 2, [y_low, y_high], gid=f"y-bar-{panel.measure}-{point.number}", **style)


def _colours(point: Point) -> tuple[str, str, str]:
    """The colours of a point's number, its edge, and its inside."""
    paper, own = COLOURS["paper"][0], COLOURS[point.kind][0]
    return (own, COLOURS["hollow"][0], paper) if point.hollow else (own, paper, own)


def _number_places(axes: "Axes", points: Sequence[Point]) -> list[tuple[float, float]]:
    """Where each point's number stands relative to it, in px: away from points and other numbers if there is room."""
    box = axes.get_window_extent()
    scale = 72 / axes.figure.dpi
    taken = [tuple(axes.transData.transform((point.x.value, point.y.value)) * scale) for point in points]
    around = [(math.cos(math.pi * part / 8), math.sin(math.pi * part / 8)) for part in (1, 15, 9, 7, 5, 3, 13, 11)]
    offsets = [(far * dx, far * dy) for far in (15.0, 26.0, 38.0) for dx, dy in around]
    at_points, places = list(taken), []
    for x, y in at_points:
        inside = [
            (dx, dy)
            for dx, dy in offsets
            if box.x0 * scale + 8 <= x + dx <= box.x1 * scale + 8 and box.y0 * scale + 6 <= y + dy <= box.y1 * scale
        ]

        def room(offset: tuple[float, float], x: float = x, y: float = y) -> float:
            """Distance to whatever is nearest; a number may come closer to a point than to another number."""
            at = (x + offset[0], y + offset[1])
            return min(math.dist(at, other) + (4.0 if other in at_points else 0.0) for other in taken)

        free = next((offset for offset in inside if room(offset) >= 17.0), None)
        place = free or max(inside or offsets, key=room)
        taken.append((x + place[0], y + place[1]))
        places.append(place)
    return places


def _draw_key(canvas: "Figure", points: Sequence[Point], columns: int) -> None:
    """Every arm that is a point somewhere, by number."""
    from matplotlib.lines import Line2D

    handles = []
    for point in points:
        _, edge, fill = _colours(point)
        handles.append(Line2D([], [], linestyle="", marker="o", markersize=9, markeredgewidth=1.5))
        handles[-1].set(markeredgecolor=edge, markerfacecolor=fill)
    names = [f"{point.number}\u2002{point.name}" for point in points]
    key = canvas.legend(
        handles, names, loc="lower left", ncols=columns, frameon=False, labelcolor=COLOURS["ink"][0], handletextpad=0.3
    )
    for point, text in zip(points, key.get_texts(), strict=True):
        text.set_gid(f"key-{point.number}")


def _styled(svg: str, words: str, spoken: dict[str, str]) -> str:
    """The drawing as an element of a page or a file: its colours follow the scheme, its points have titles.

    `words` says what it shows; `spoken` maps the id of a point to the point in words, for whoever points at it.
    """
    width, height = map(float, re.findall(r' (?:width|height)="([\d.]+)pt"', svg)[:2])
    body = svg[svg.index("</defs>") + len("</defs>") :]  # what comes before is the XML header and a global style
    body = re.sub(r' id="(?:figure|axes|patch|matplotlib\.axis|[xy]tick|line2d|text|legend)_\d+"', "", body)
    body = body.replace("font-family: 'DejaVu Sans'; ", "")
    body = re.sub(r"\s*<g/>", "", body).replace(" \n", " ")
    for name, (light, _) in COLOURS.items():
        body = body.replace(light, f"var(--figure-{name})")
    for point, text in spoken.items():
        body = body.replace(f'<g id="{point}">', f'<g id="{point}"><title>{escape(text)}</title>')
    schemes = (" ".join(f"--figure-{name}: {pair[dark]};" for name, pair in COLOURS.items()) for dark in (0, 1))
    return (
        '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" class="tradeoffs" '
        f'viewBox="0 0 {width:g} {height:g}" width="{width:g}" height="{height:g}" '
        f'role="img" aria-label={quoteattr(words)}>\n<style>\n{CSS.format(*schemes)}</style>{body}'
    )
