"""Training curves: one panel per number that the trainer wrote."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unsay.errors import UserError
from unsay.files import read_text
from unsay.reporting import numbers

KNOWN = {
    "forget_loss": "Forget: loss on harmful answers (meant to rise)",
    "refuse_loss": "Refuse: loss on safe answers (meant to fall)",
    "retain_kl": "Retain: KL from the original (meant to stay low)",
    "decision_kl": "Retain: KL at the first answer tokens",
    "loss": "Total loss",
}
"""Titles of the numbers that every method writes; others are shown under their own name."""
SECONDARY = ("lr", "learning_rate", "seconds", "time", "elapsed", "epoch", "grad_norm", "memory", "tokens")
SKIPPED = ("step", "seed")
MOST_POINTS = 400


@dataclass(frozen=True)
class Panel:
    """One curve. `points` is an SVG path of x and y from 0 to 100, y downwards."""

    key: str
    title: str
    path: str
    low: str
    high: str
    first_step: str
    last_step: str
    last: str
    dot: tuple[float, float]
    main: bool
    """False for housekeeping numbers, which the page folds away."""


def read_metrics(path: Path) -> list[dict[str, Any]]:
    """Rows of a metrics file; a last line cut off by a kill is left out.

    Raises:
        UserError: a malformed line that is not the last, or a row that is not an object.
    """
    lines = [(number, line) for number, line in enumerate(read_text(path).splitlines(), start=1) if line.strip()]
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
        x = float(step) if _number(step) else float(index)
        for key, value in row.items():
            if key not in SKIPPED and _number(value):
                series.setdefault(key, []).append((x, float(value)))
    drawn = [_panel(key, points) for key, points in series.items() if len(points) > 1]
    known = list(KNOWN)
    rank = {
        panel.key: (not panel.main, known.index(panel.key) if panel.key in KNOWN else len(known)) for panel in drawn
    }
    return tuple(sorted(drawn, key=lambda panel: rank[panel.key]))


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _panel(key: str, points: list[tuple[float, float]]) -> Panel:
    points = sorted(points, key=lambda point: point[0])
    stride = max(1, math.ceil(len(points) / MOST_POINTS))
    kept = points[::stride]
    if kept[-1] != points[-1]:
        kept.append(points[-1])
    left, right = points[0][0], points[-1][0]
    low, high = min(y for _, y in points), max(y for _, y in points)

    def place(point: tuple[float, float]) -> tuple[float, float]:
        x = (point[0] - left) / (right - left) * 100 if right > left else 50.0
        y = 100 - (point[1] - low) / (high - low) * 100 if high > low else 50.0
        return x, y

    path = " ".join(f"{'L' if index else 'M'}{x:.2f} {y:.2f}" for index, (x, y) in enumerate(map(place, kept)))
    return Panel(
        key=key,
        title=KNOWN.get(key, key.replace("_", " ").replace("/", ": ")),
        path=path,
        low=numbers.plain(low),
        high=numbers.plain(high),
        first_step=numbers.plain(left) if left < 1000 else f"{left:,.0f}",
        last_step=f"{right:,.0f}",
        last=numbers.plain(points[-1][1]),
        dot=place(points[-1]),
        main=not any(key == word or key.endswith(f"_{word}") for word in SECONDARY),
    )
