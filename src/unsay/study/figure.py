"""The trade-offs as one picture that stands beside a page: an SVG file that brings its own style."""

from typing import NamedTuple

from unsay.study.charts import HEIGHT, LEFT, WIDTH, Tradeoff, tradeoffs
from unsay.study.render import templates
from unsay.study.schema import StudyResult

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
