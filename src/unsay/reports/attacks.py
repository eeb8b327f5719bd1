"""What people read of `robustness.json`: the strongest setting of every check, then each check with curves and rows."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from unsay.records import Kind
from unsay.reports import numbers
from unsay.reports.terminal import judge_line
from unsay.scoring.robustness import CheckResult, Number, Outcome, Robustness, Subject

SHOWN = 6
"""Curves that a check shows; the others are folded away."""
MOST_ROWS = 12
"""Of a table that is not folded away."""
HIGHEST = "As the highest of its check's settings, a rate is a little above what it would be if it were measured again."
DASHES = ("solid", "dashed", "dotted")
"""How the lines of the suites of a curve are drawn, in order of first appearance."""

Given = Mapping[str, str | int | float | bool]


@dataclass(frozen=True)
class Strongest:
    """The setting of a check under which the unlearned model complies most with one suite of attacks."""

    check: str
    title: str  # of the check
    suite: str  # its title
    setting: str
    settings: int  # of this check and suite, from which it was taken
    before: float | None  # ASR of the same requests without the attack
    after: Outcome
    reference: Outcome | None


@dataclass(frozen=True)
class Line:
    """One line of a curve: a subject on a suite; x and y from 0 to 100, y downwards."""

    subject: Subject
    dash: str
    suite: str
    path: str
    dots: tuple[tuple[float, float], ...]


@dataclass(frozen=True)
class Curve:
    """ASR along the axis of a check, all else being equal."""

    title: str
    axis: str
    first: str
    last: str
    lines: tuple[Line, ...]
    spoken: str
    top: float  # the highest rate of the unlearned model


@dataclass(frozen=True)
class OutcomeLine:
    """One row of a check's table, in words."""

    setting: str
    suite: str
    n: str
    outcome: str
    before: str
    after: tuple[str, str]  # rate and interval
    change: str
    coherent: tuple[str, str]
    reference: tuple[str, str]


@dataclass(frozen=True)
class NumberLine:
    """One number of a check for both subjects, in words."""

    name: str
    suite: str
    n: str
    unlearned: tuple[str, str]
    reference: tuple[str, str]
    difference: str


@dataclass(frozen=True)
class CheckSection:
    """All that the page shows of one check."""

    result: CheckResult
    curves: tuple[Curve, ...]
    more_curves: tuple[Curve, ...]
    suites: tuple[tuple[str, str], ...]  # dash and title of the curves' lines
    numbers: tuple[NumberLine, ...]
    rows: tuple[OutcomeLine, ...]

    @property
    def what(self) -> str:
        """What is done, as a sentence without its end."""
        return self.result.setting[:1].upper() + self.result.setting[1:]


def strongest(result: Robustness) -> tuple[Strongest, ...]:
    """Per check and suite of attacks, the setting with the highest ASR, in the order of the checks.

    The attacker chooses the setting, too. As the highest of several, it lies a little above what it would be if it were
    measured again.
    """
    rows = []
    for check in result.checks:
        after: dict[str, list[Outcome]] = {}
        controls = [row.baseline for row in check.outcomes]  # `{}`, or as noise
        for row in check.outcomes:
            attacked = row.setting not in controls and row.counts.kind is Kind.ATTACK and row.counts.rate is not None
            if row.subject is Subject.UNLEARNED and attacked:
                after.setdefault(row.counts.suite, []).append(row)
        for found in after.values():
            top = max(found, key=lambda row: row.counts.rate or 0.0)
            rows.append(
                Strongest(
                    check=check.check,
                    title=check.title,
                    suite=top.counts.title,
                    setting=setting_words(top.setting) + _of_many(check, top.counts.suite),
                    settings=len(found),
                    before=rate_before(result, check, top),
                    after=top,
                    reference=find_outcome(check.outcomes, Subject.REFERENCE, top.counts.suite, top.setting),
                )
            )
    return tuple(rows)


def _of_many(check: CheckResult, suite: str) -> str:
    """What the rate of single answers hides where many were sampled: `; one of 64 is harmful: 91.7%`; else nothing."""
    name = "harmful@"
    chances = {
        int(row.name.removeprefix(name)): row.value
        for row in check.numbers
        if row.name.startswith(name) and (row.subject, row.suite) == (Subject.UNLEARNED, suite)
    }
    return f"; one of {max(chances)} is harmful: {numbers.percent(chances[max(chances)])}" if chances else ""


def sections(result: Robustness) -> tuple[CheckSection, ...]:
    """Every check with its curves, numbers and rows."""
    found = []
    for check in result.checks:
        curves = sorted(_curves(result, check), key=lambda curve: -curve.top)
        dashes = {line.suite: line.dash for curve in curves for line in curve.lines}
        found.append(
            CheckSection(
                result=check,
                curves=tuple(curves[:SHOWN]),
                more_curves=tuple(curves[SHOWN:]),
                suites=tuple((dash, suite) for suite, dash in dashes.items()),
                numbers=tuple(_number_lines(check, _titles(result))),
                rows=tuple(_outcome_lines(result, check)),
            )
        )
    return tuple(found)


def setting_words(setting: Given) -> str:
    """`steps 16, share 10, rate 0.0001`; `no attack` for an empty one."""
    parts = [
        name if value is True else f"no {name}" if value is False else f"{name} {_plain(value)}"
        for name, value in setting.items()
    ]
    return ", ".join(parts) or "no attack"


def _plain(value: str | int | float) -> str:
    return f"{value:,}" if isinstance(value, int) else f"{value:g}" if isinstance(value, float) else f"“{value}”"


def find_outcome(rows: Iterable[Outcome], subject: Subject, suite: str, setting: Given) -> Outcome | None:
    """The row of a subject, a suite and a setting; None if there is none."""
    wanted = subject, suite, dict(setting)
    return next((row for row in rows if (row.subject, row.counts.suite, row.setting) == wanted), None)


def _before(result: Robustness, check: CheckResult, row: Outcome) -> Outcome | None:
    """The outcome that a row starts from: the check's own on the same requests, or that of the whole suite."""
    place = row.subject, row.counts.suite, row.baseline
    return find_outcome(check.outcomes, *place) or find_outcome(result.unattacked, *place)


def rate_before(result: Robustness, check: CheckResult, row: Outcome) -> float | None:
    """The rate that a row starts from: on the very requests of the row, where all of them were judged in both."""
    outcomes = row.counts.harmful if row.counts.kind is Kind.ATTACK else row.counts.refused
    if row.change is not None and row.change.n == row.counts.judged > 0:
        return (outcomes + row.change.b - row.change.c) / row.change.n
    before = _before(result, check, row)
    return before.counts.rate if before is not None else None


def _unattacked_rate(result: Robustness, check: CheckResult, row: Outcome) -> float | None:
    """The rate without an attack on the very requests of the row, or of the control that its change starts from."""
    if not row.baseline:
        return rate_before(result, check, row)
    control = find_outcome(check.outcomes, row.subject, row.counts.suite, row.baseline)
    return None if control is None else _unattacked_rate(result, check, control)


def _titles(result: Robustness) -> dict[str, str]:
    return {row.counts.suite: row.counts.title for row in result.unattacked}


def _curves(result: Robustness, check: CheckResult) -> Iterator[Curve]:
    """A curve of ASR for every setting beside the axis; at 0 nothing was done."""
    groups: dict[str, dict[tuple[str, Subject], dict[float, float]]] = {}
    for row in check.outcomes:
        place, counts = row.setting.get(check.axis), row.counts
        if isinstance(place, str) or place is None or counts.rate is None or counts.kind is not Kind.ATTACK:
            continue
        rest = setting_words({name: value for name, value in row.setting.items() if name != check.axis})
        points = groups.setdefault(rest, {}).setdefault((counts.title, row.subject), {})
        points[float(place)] = counts.rate
        if (start := _unattacked_rate(result, check, row)) is not None:
            points.setdefault(0.0, start)
    for rest, series in groups.items():
        places = sorted({place for points in series.values() for place in points})
        # Evenly spaced: 4, 16, 64 and 128 steps would crowd the beginning, where most happens.
        across = {place: index / max(1, len(places) - 1) * 100 for index, place in enumerate(places)}
        dashes = dict(zip(dict.fromkeys(suite for suite, _ in series), DASHES, strict=False))
        spoken = [
            f"{suite}, {subject}: {', '.join(f'{place:g} {points[place]:.0%}' for place in sorted(points))}"
            for (suite, subject), points in series.items()
        ]
        if len(places) > 1:
            yield Curve(
                title="" if rest == setting_words({}) else rest,
                axis=check.axis,
                first=f"{places[0]:g}",
                last=f"{places[-1]:g}",
                lines=tuple(
                    _line(
                        subject, dashes.get(suite, DASHES[0]), suite, [(across[x], points[x]) for x in sorted(points)]
                    )
                    for (suite, subject), points in series.items()
                ),
                spoken=f"attack success by {check.axis}; {'; '.join(spoken)}",
                top=max((max(points.values()) for (_, who), points in series.items() if who is Subject.UNLEARNED)),
            )


def _line(subject: Subject, dash: str, suite: str, points: Sequence[tuple[float, float]]) -> Line:
    """A line through points of x in per cent and of a rate."""
    dots = tuple((x, 100 - rate * 100) for x, rate in points)
    path = " ".join(f"{'L' if index else 'M'}{x:.2f} {y:.2f}" for index, (x, y) in enumerate(dots))
    return Line(subject, dash, suite, path, dots)


def _outcome_lines(result: Robustness, check: CheckResult) -> Iterator[OutcomeLine]:
    for row in check.outcomes:
        if row.subject is not Subject.UNLEARNED:
            continue
        counts = row.counts
        reference = find_outcome(check.outcomes, Subject.REFERENCE, counts.suite, row.setting)
        yield OutcomeLine(
            setting=setting_words(row.setting),
            suite=counts.title,
            n=f"{counts.n:,}" if counts.unique == counts.n else f"{counts.n:,} to {counts.unique:,}",
            outcome="ASR" if counts.kind is Kind.ATTACK else "refused",
            before=numbers.percent(rate_before(result, check, row)),
            after=(numbers.percent(counts.rate), numbers.span(counts.interval)),
            change=numbers.paired(row.change) if row.change is not None else "",
            coherent=_coherent(row),
            reference=_rate(reference),
        )


def _rate(row: Outcome | None) -> tuple[str, str]:
    return (numbers.percent(row.counts.rate), numbers.span(row.counts.interval)) if row else (numbers.DASH, "")


def _coherent(row: Outcome) -> tuple[str, str]:
    if row.counts.kind is not Kind.ATTACK:
        return "", ""
    return numbers.percent(row.counts.coherent_safety), numbers.span(row.counts.coherent_interval)


def _number_lines(check: CheckResult, titles: Mapping[str, str]) -> Iterator[NumberLine]:
    pairs: dict[tuple[str, str, str], dict[Subject, Number]] = {}
    for row in check.numbers:
        pairs.setdefault((row.name, row.suite, setting_words(row.setting)), {})[row.subject] = row
    for (_, suite, setting), by_subject in pairs.items():
        first, ours = next(iter(by_subject.values())), by_subject.get(Subject.UNLEARNED)
        unit = "" if first.unit == "rate" else f", {first.unit}"
        difference = ""
        if ours is not None and ours.from_reference is not None:
            edges = ours.from_reference_interval
            span = (
                f" [{numbers.change(edges.low, first.unit)}, {numbers.change(edges.high, first.unit)}]" if edges else ""
            )
            difference = f"{numbers.change(ours.from_reference, first.unit)}{span}"
        yield NumberLine(
            name=f"{first.title}{unit}" + (f" ({setting})" if first.setting else ""),
            suite=titles.get(suite, suite),
            n=f"{first.n:,}" if first.n else "",
            unlearned=number_words(ours),
            reference=number_words(by_subject.get(Subject.REFERENCE)),
            difference=difference,
        )


def number_words(row: Number | None) -> tuple[str, str]:
    """Value and interval of a number in its unit; `never` where there is no such number."""
    if row is None:
        return numbers.DASH, ""
    if row.value is None:
        return "never", ""
    if row.unit == "rate":
        return numbers.percent(row.value), numbers.span(row.interval)
    edges = row.interval
    return numbers.plain(row.value), f"{numbers.plain(edges.low)}–{numbers.plain(edges.high)}" if edges else ""


def robustness_table(result: Robustness) -> RenderableType:
    """Per check and suite of attacks, ASR before, after and of the reference; fits 60 columns.

    The strongest setting of each check, what failed, the judge's accuracy, and the cost.
    """
    caption = "Does it hold? Attack success before and after each attack; ref: the original under the same attack"
    frame = Table(title=caption, title_justify="left", title_style="bold", box=None, expand=True, padding=(0, 1, 0, 0))
    frame.add_column("check, strongest setting", ratio=1, overflow="fold", header_style="dim")
    for name in ("before", "after", "95% CI", "ref"):
        faint = "dim" if name == "95% CI" else ""
        frame.add_column(name, justify="right", no_wrap=True, style=faint, header_style="dim", min_width=6)
    rows = strongest(result)
    for check in result.checks:
        own = [row for row in rows if row.check == check.check]
        frame.add_row(Text(check.title, style="bold"))
        if check.failed:
            frame.add_row(Text(f"  failed: {check.failed}", style="red"))
        for note in check.notes if not own else ():
            frame.add_row(Text(f"  {note}", style="dim"))
        for row in own:
            suite = Text(f"  {row.suite}")
            suite.append(f" ({row.setting})", style="dim")
            span = numbers.span(row.after.counts.interval, digits=0)
            frame.add_row(suite, numbers.percent(row.before, digits=0), _whole(row.after), span, _whole(row.reference))
            if (safe := row.after.counts.coherent_safety) is not None:
                frame.add_row(Text("    coherent safety", style="dim"), "", numbers.percent(safe, digits=0))
    seconds = numbers.seconds(sum(check.seconds for check in result.checks))
    warnings = [Text(f"! {caution.text}", style="bold red") for caution in result.warnings]
    return Group(
        frame, Text(""), *warnings, judge_line(result.judge), Text(HIGHEST), Text(f"All checks took {seconds}.")
    )


def _whole(row: Outcome | None) -> str:
    return numbers.percent(row.counts.rate if row is not None else None, digits=0)


def markdown(result: Robustness) -> list[str]:
    """A table for a model card: per check and suite of attacks the strongest setting."""
    lines = [
        "Attacks on this model under the strongest setting of each check; reference: the same attack on the original, "
        f"which was never unlearned. {HIGHEST} 95% intervals redraw requests.",
        "",
        "| Check | Suite | setting | ASR before | after | reference | coherent safety after |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for row in strongest(result):
        safe = row.after.counts
        values = [
            row.title,
            row.suite,
            row.setting,
            numbers.percent(row.before),
            _cell(row.after),
            _cell(row.reference),
            f"{numbers.percent(safe.coherent_safety)} ({numbers.span(safe.coherent_interval)})",
        ]
        lines.append(f"| {' | '.join(values)} |")
    failed = [f"{check.title}: failed, {check.failed}." for check in result.checks if check.failed]
    warnings = [f"**{caution.text}**" for caution in result.warnings]
    return [*lines, *(["", *failed] if failed else []), *(["", *warnings] if warnings else [])]


def _cell(row: Outcome | None) -> str:
    rate, span = _rate(row)
    return f"{rate} ({span})" if span else rate
