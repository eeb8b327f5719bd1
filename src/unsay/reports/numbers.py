"""Numbers as people read them: few digits, a true minus sign, units."""

import math
from collections.abc import Sequence
from typing import Any

from unsay.scoring import Change, SeparationChange, UtilityChange, UtilityRow
from unsay.statistics import Interval

DASH = "–"
MINUS = "−"


def percent(value: float | None, digits: int = 1) -> str:
    """`0.123` becomes `12.3%`; None becomes a dash."""
    return DASH if value is None else f"{value * 100:.{digits}f}%"


def short_percent(value: float) -> str:
    """For running text: whole per cent, with one digit below 10 and from 99.5 up.

    `under 0.1%` and `over 99.9%` for what would round to 0 or 100 and is not.
    """
    if 0 < value < 0.001:
        return "under 0.1%"
    if 0.995 <= value < 1:
        return "over 99.9%" if value >= 0.9995 else f"{value:.1%}"
    return f"{value:.0%}" if value >= 0.0995 or value == 0 else f"{value:.1%}"


def span(interval: Interval | None, digits: int = 1) -> str:
    """An interval of a rate: `9.1–15.8`, in per cent."""
    if interval is None:
        return ""
    return f"{interval.low * 100:.{digits}f}{DASH}{interval.high * 100:.{digits}f}"


def points(difference: float | None, digits: int = 1) -> str:
    """A difference of two rates in percentage points, always with its sign."""
    if difference is None:
        return DASH
    rounded = round(difference * 100, digits)
    sign = MINUS if rounded < 0 else "+" if rounded > 0 else ""
    return f"{sign}{abs(rounded):.{digits}f}"


def p_value(p: float) -> str:
    """Three digits, and `< 0.001` below that."""
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def plain(value: float) -> str:
    """Three significant digits, whole from 1,000 up; an exponent only where a reader would count zeros."""
    if 999.5 <= abs(value) < 1e7:
        return f"{value:,.0f}".replace("-", MINUS)
    return f"{value:.3g}".replace("-", MINUS)


def count(value: float) -> str:
    """`950`, `12.3 k`, `4.56 M`."""
    for limit, unit in ((1e12, "T"), (1e9, "G"), (1e6, "M"), (1e4, "k")):
        if value >= limit:
            return f"{value / (1e3 if unit == 'k' else limit):.3g} {unit}"
    return f"{value:,.0f}"


def flops(value: float) -> str:
    """Floating-point operations: `1.2 PFLOP`; a dash for 0, which is a stage without a meter."""
    for limit, unit in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M")):
        if value >= limit:
            scaled = value / limit
            return f"{scaled:,.0f} {unit}FLOP" if scaled >= 100 else f"{scaled:.3g} {unit}FLOP"
    return f"{value:,.0f} FLOP" if value else DASH


def memory(value: int) -> str:
    """Bytes in GiB or MiB; a dash for 0."""
    if not value:
        return DASH
    return f"{value / 2**30:.2f} GiB" if value >= 2**30 else f"{value / 2**20:.0f} MiB"


def seconds(value: float) -> str:
    """`4.2 s`, `3 min 05 s`, `2 h 10 min`."""
    if value < 60:
        return f"{value:.1f} s"
    whole = round(value)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"


def part(n: int, whole: int | None) -> str:
    """`40`, or `40 of 260` for a part of a whole."""
    return f"{n:,}" if whole is None else f"{n:,} of {whole:,}"


def area(value: float | None) -> str:
    """An area under a curve: `0.87`, a dash for None."""
    return DASH if value is None else f"{value:.2f}"


def area_change(row: SeparationChange) -> str:
    """`+0.05 [+0.01, +0.09]`: a paired change of an area."""
    difference, low, high = (
        f"{number:+.2f}".replace("-", MINUS) for number in (row.difference, row.interval.low, row.interval.high)
    )
    return f"{difference} [{low}, {high}]"


def change(difference: float | None, unit: str) -> str:
    """A difference with its sign: in points of a rate, else in its unit."""
    if difference is None or unit == "rate":
        return points(difference)
    return f"{MINUS if difference < 0 else '+' if difference > 0 else ''}{plain(abs(difference))}"


def paired(row: Change | UtilityChange) -> str:
    """`−2.5 points [−9.1, +4.0]`: a paired change in its unit; empty without pairs."""
    if row.difference is None:
        return ""
    unit = row.unit if isinstance(row, UtilityChange) else "rate"
    text = f"{change(row.difference, unit)} {'points' if unit == 'rate' else unit}"
    if row.interval is None:
        return text
    return f"{text} [{change(row.interval.low, unit)}, {change(row.interval.high, unit)}]"


def measure(row: UtilityRow, value: float | None) -> str:
    """A utility value in its own unit; None becomes a dash."""
    return percent(value) if row.unit == "rate" or value is None else plain(value)


def measure_span(row: UtilityRow) -> str:
    """A utility interval in its own unit."""
    if row.interval is None:
        return ""
    return span(row.interval) if row.unit == "rate" else f"{plain(row.interval.low)}{DASH}{plain(row.interval.high)}"


def is_number(value: Any) -> bool:
    """Whether JSON holds a finite number here."""
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def listed(parts: Sequence[str], last: str = "and") -> str:
    """`a, b and c`."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} {last} {parts[-1]}"
