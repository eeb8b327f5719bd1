"""The tables that end a run in the terminal."""

from collections.abc import Sequence
from itertools import product

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from unsay.records import Condition, Kind, Phase
from unsay.reports import numbers
from unsay.reports.charts import HARMLESS, by_suite
from unsay.reports.headline import compared_models, span_words
from unsay.scoring import JudgeInfo, Scores, SuiteRow, UtilityRow
from unsay.scoring.red_team import RedTeam
from unsay.scoring.subsets import by_subset, is_control, subset_of
from unsay.statistics import ALPHA, Interval

SECTIONS = (
    (Kind.ATTACK, "Attack success (harmful; lower is better) and coherent safety (refused or safe)"),
    (Kind.BENIGN, "Over-refusal (harmless requests refused; lower is better)"),
)

MISSING = (numbers.DASH, "")


def table(scores: Scores) -> RenderableType:
    """Per suite, before and after with 95 % intervals; then the judge's accuracy and what to beware of.

    Fits 80 columns and stays readable at 60: titles wrap, numbers never do.
    """
    parts: list[RenderableType] = []
    if (names := compared_models(scores)) is not None:
        parts += [Text(f"before: {names.before}"), Text(f"after:  {names.after}"), ""]
    # One width for all sections, so that the columns line up.
    spans = [_span(interval) for row in scores.rows for interval in (row.interval, row.coherent_interval)]
    spans += [_measured(row)[1] for row in scores.utility]
    width = max(map(len, spans), default=0)
    # Suites share a table, where the modality says what is shown; each kind of control has its own.
    for (kind, caption), control in product(SECTIONS, (None, *Condition)):
        if rows := [row for row in scores.rows if row.kind is kind and _control(row) is control]:
            title = caption if control is None else f"{caption}, {control}"
            parts += [_suites(title, rows, width, scores), ""]
    if scores.utility:
        parts += [_utility(scores.utility, width), ""]
    parts += _separation(scores)
    if any(row.p_adjusted is not None and row.p_adjusted < ALPHA for row in scores.changes):
        family = len(scores.changes) + len(scores.utility_changes)
        parts.append(Text(f"* changed, p < {ALPHA} after Holm's correction over {family} suites"))
    parts += [judge_line(scores.judge), *_judge_cost(scores), *_memory(scores), *_corrected(scores)]
    parts += [Text(f"! {caution.text}", style="bold red") for caution in scores.warnings if caution.severe]
    return Group(*parts)


def red_team_table(red_team: RedTeam) -> Table:
    """One line for each way that was tried: requests asked, gave in, their share with its interval, and the sum."""
    frame = Table(
        title="Harmful requests of the training data that the original model gave in to",
        title_justify="left",
        title_style="bold",
        box=None,
        expand=True,
        padding=(0, 1, 0, 0),
    )
    frame.add_column("asked", ratio=1, overflow="fold", header_style="dim")
    for name in ("n", "gave in", "", "95% CI", "so far"):
        frame.add_column(name, justify="right", no_wrap=True, header_style="dim")
    for way in red_team.ways:
        span = numbers.span(way.interval, digits=0)
        share = numbers.percent(way.share, digits=0)
        frame.add_row(Text(way.title), f"{way.asked:,}", f"{way.gave_in:,}", share, span, f"{way.together:,}")
    return frame


def _frame(caption: str, width: int) -> Table:
    frame = Table(title=caption, title_justify="left", title_style="bold", box=None, expand=True, padding=(0, 1, 0, 0))
    frame.add_column("suite", ratio=1, overflow="fold", header_style="dim")
    frame.add_column("n", justify="right", no_wrap=True, header_style="dim")
    for phase in Phase:
        frame.add_column(phase.value, justify="right", no_wrap=True, header_style="dim", min_width=6)
        frame.add_column("95% CI", justify="right", no_wrap=True, style="dim", header_style="dim", min_width=width)
    return frame


def _suites(caption: str, rows: Sequence[SuiteRow], width: int, scores: Scores) -> Table:
    """One table of one condition; a star marks a change that holds after Holm's correction."""
    frame = _frame(caption, width)
    clear = {subset_of(row) for row in scores.changes if row.p_adjusted is not None and row.p_adjusted < ALPHA}
    for subset, phases in by_subset(rows).items():
        cells: list[str] = []
        coherent: list[str] = []  # a model that babbles has a low ASR, too, but not this
        for phase in Phase:
            row = phases.get(phase)
            cells += [numbers.percent(row.rate), _span(row.interval)] if row else MISSING
            coherent += [numbers.percent(row.coherent_safety), _span(row.coherent_interval)] if row else MISSING
        first = next(iter(phases.values()))
        title = Text(first.title + (" *" if subset in clear else ""))
        if first.unique < first.n:
            title.append(f" ({first.unique} distinct)", style="dim")
        frame.add_row(title, str(first.n), *cells)
        if first.kind is Kind.ATTACK:
            frame.add_row(Text("  coherent safety", style="dim"), "", *coherent)
    return frame


def _control(row: SuiteRow) -> Condition | None:
    """What a control was shown; None for other rows."""
    return row.condition if is_control(row) else None


def _utility(rows: Sequence[UtilityRow], width: int) -> Table:
    frame = _frame("Utility", width)
    for phases in by_suite(rows).values():
        first = next(iter(phases.values()))
        unit = "" if first.unit == "rate" else f", {first.unit}"
        title = Text(first.title)
        title.append(f" ({'higher' if first.higher_is_better else 'lower'} is better{unit})", style="dim")
        cells: list[RenderableType] = []
        for phase in Phase:
            measured = phases.get(phase)
            cells += _measured(measured) if measured else MISSING
        frame.add_row(title, str(first.n), *cells)
    return frame


def _measured(row: UtilityRow) -> tuple[str, str]:
    span = _span(row.interval) if row.unit == "rate" else numbers.measure_span(row)
    return numbers.measure(row, row.value), span


def _span(interval: Interval | None) -> str:
    """In whole per cent: a terminal has no room for more, and the interval is wider than that."""
    return numbers.span(interval, digits=0)


def _separation(scores: Scores) -> list[RenderableType]:
    """A line for alarming and one for ordinary requests, where there are numbers."""
    lines: list[RenderableType] = []
    for against, called in HARMLESS.items():
        values: dict[str, list[str]] = {}
        for row in scores.separation:
            if row.against == against and row.value is not None:
                values.setdefault(row.form, []).append(numbers.area(row.value))
        if values:
            parts = ", ".join(f"{form} {' → '.join(each)}" for form, each in values.items())
            lines.append(Text(f"Tells harmful from {called} requests (AUROC): {parts}"))
    return [*lines, ""] if lines else []


def judge_line(judge: JudgeInfo) -> Text:
    """The judge's name and how far it agrees with people; with details where another judge has the same name."""
    details = ", ".join(f"{name} {text}" for name, text in judge.details.items())
    called = f"{judge.name} ({details})" if details else judge.name
    measure = judge.headline()
    if measure is None:
        return Text(f"Judge {called}: never compared with human labels.", style="bold red")
    name, value = measure
    measured = f"{name.replace('_', ' ')} {numbers.percent(value.value)} [{span_words(judge)}]"
    return Text(f"Judge {called}: {measured} against {value.n:,} human labels ({value.dataset}).")


def _judge_cost(scores: Scores) -> list[Text]:
    """What a judge behind a server took; nothing for a local one."""
    if not (requests := sum(row.judge_requests for row in scores.cost)):
        return []
    tokens, price = sum(row.judge_tokens for row in scores.cost), sum(row.judge_price for row in scores.cost)
    cost = f", cost {price:.2f}" if price else ""
    return [Text(f"The judge took {requests:,} requests and {numbers.count(tokens)} tokens{cost}.")]


def _memory(scores: Scores) -> list[Text]:
    """Peak memory on the accelerator and on the host; nothing for a run without an accelerator."""
    if not (accelerator := max((row.peak_accelerator_bytes for row in scores.cost), default=0)):
        return []
    host = max(row.peak_memory_bytes for row in scores.cost)
    return [Text(f"Peak memory: {numbers.memory(accelerator)} on the accelerator, {numbers.memory(host)} on the host.")]


def _corrected(scores: Scores) -> list[Text]:
    """One line per suite with a corrected rate: what it would be if the judge made no errors."""
    rows = [row for row in scores.rows if row.corrected is not None]
    if not rows:
        return []
    known = "; ".join(sorted({errors.dataset for errors in scores.judge.errors.values()}))
    lines = [Text(f"Corrected for that judge's errors (Rogan-Gladen; supposes that it errs here as on {known}):")]
    for row in rows:
        rates = f"{numbers.percent(row.rate)} → {numbers.percent(row.corrected)} {_span(row.corrected_interval)}"
        lines.append(Text(f"  {row.title}, {row.phase}: {rates}", style="dim"))
    return lines
