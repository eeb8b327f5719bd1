r"""Rankings of a study as tables: in the terminal, in Markdown, in LaTeX (with `\usepackage{booktabs}`), and as CSV.

All of them are written from one frame.
"""

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from unsay.errors import UserError
from unsay.reports import numbers
from unsay.scoring.limits import MAX_DEGENERATE
from unsay.statistics import ALPHA
from unsay.studies import words
from unsay.studies.schema import COHERENT, REFUSAL, Comparison, StudyResult
from unsay.studies.words import RATIOS, Cell, Column, Frame, Row, frame_of


def table(result: StudyResult, form: str, rule: str | None = None) -> str:
    """The rankings of a study as `latex`, `csv` or `markdown`, ready to be printed; of all rules if none is named."""
    if form not in FORMS:
        raise UserError(f"--format: unknown '{form}'; known are {', '.join(FORMS)}")
    rules = dict.fromkeys(ranking.rule for ranking in result.rankings)
    if rule is not None and rule not in rules:
        raise UserError(f"--budget: this study has no arms at equal '{rule}'; it has {', '.join(rules) or 'none'}")
    frames = [frame_of(result, ranking) for ranking in result.rankings if rule in (None, ranking.rule)]
    return FORMS[form](result, frames)


def terminal_table(result: StudyResult) -> RenderableType:
    """All rankings, findings and cautions, for the terminal; fits 80 columns."""
    parts: list[RenderableType] = []
    for ranking in result.rankings:
        parts += [_terminal_ranking(frame_of(result, ranking)), ""]
    parts += [Text(line) for line in words.findings(result)]
    if (tie := words.tie(result)) is not None:
        parts.append(Text(tie, style="dim"))
    parts += [Text(f"! {line}", style="bold red") for line in words.cautions(result)]
    return Group(*parts)


def _terminal_ranking(frame: Frame) -> Table:
    table = Table(
        title=words.heading(frame.result, frame.ranking),
        title_justify="left",
        title_style="bold",
        box=None,
        expand=True,
        padding=(0, 1, 0, 0),
    )
    table.add_column("", no_wrap=True)
    table.add_column("arm", ratio=1, overflow="fold", header_style="dim")
    shown = {COHERENT: "coherent", "text_attacks": "ASR text", "image_attacks": "ASR image", REFUSAL: "refused"}
    for title in (*shown.values(), "cost"):
        table.add_column(title, justify="right", no_wrap=True, header_style="dim")
    for row in frame.rows:
        cost = row.arm.cost.ratios.get("flops") if row.arm.cost is not None else None
        table.add_row(
            row.places(),
            Text(row.arm.title, style="bold" if row.arm.arm == frame.result.reference else ""),
            *(_terminal_cell(row.cells.get(name)) for name in shown),
            numbers.DASH if cost is None else f"×{cost:.2f}",
        )
    return table


def _terminal_cell(cell: Cell | None) -> Text:
    """Whole per cents: a terminal has no room for more, and the interval is wider than that."""
    if cell is None:
        return Text(numbers.DASH)
    text = Text(numbers.percent(cell.measure.value, 0))
    text.append(f" {numbers.span(cell.measure.interval, 0)}", style="dim")
    return text


def markdown(result: StudyResult, frames: Sequence[Frame]) -> str:
    """Rankings, each under its heading, then the cautions."""
    parts = []
    for each in frames:
        parts += [f"**{words.heading(result, each.ranking)}**", markdown_ranking(each)]
    parts.append("\n".join(f"- {line}" for line in words.cautions(result)))
    return "\n\n".join(part for part in parts if part) + "\n"


def markdown_ranking(frame: Frame) -> str:
    """One ranking."""
    lines = [[row.places(), row.arm.title, *_markdown_cells(frame, row), *row.times()] for row in frame.rows]
    return pipes(["", "arm", *(_markdown_title(frame, column) for column in frame.columns), *RATIOS.values()], lines)


def _markdown_title(frame: Frame, column: Column) -> str:
    if column.name not in frame.result.units:
        return column.title
    unit = "" if column.unit == "rate" else f", {column.unit}"
    return f"{column.title} ({'higher' if column.higher_is_better else 'lower'} is better{unit})"


def _markdown_cells(frame: Frame, row: Row) -> Iterator[str]:
    for column in frame.columns:
        if (cell := row.cells.get(column.name)) is None:
            yield ""
        else:
            value, span = (show(frame.result, column.name, cell.measure) for show in (words.value, words.span))
            yield f"{value} ({span})"


def pipes(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A Markdown table; empty if it has no lines. If the first column has no title, the second is text too."""
    rows = [[cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines]
    if not rows:
        return ""
    rule = ["---", *("---:" for _ in head[1:])]
    if not head[0]:
        rule[1] = "---"
    return "\n".join("| " + " | ".join(line) + " |" for line in [list(head), rule, *rows])


ABOUT = ("model", "budget", "limit", "place", "worst_place", "arm", "title", "method", "modality", "state", "seeds")
NUMBER = ("measure", "unit", "value", "low", "high", "n", "requests")
DIFFERENCE = ("difference", "difference_low", "difference_high", "p", "p_holm", "verdict")
"""An arm compared with the reference; empty for the reference itself, and for measures that are not compared."""

COST_UNITS = {
    "steps": "steps",
    "tokens": "tokens",
    "image_tokens": "tokens",
    "flops": "operations",
    "seconds": "seconds",
    "peak_memory_bytes": "bytes",
}
"""Costs of training by name → unit; means over the seeds."""


def csv_lines(result: StudyResult, frames: Sequence[Frame]) -> str:
    """A CSV with a line for each arm and number, at full precision; a failed arm has one line without numbers.

    Rates are fractions.
    """
    text = io.StringIO()
    writer = csv.DictWriter(text, (*ABOUT, *NUMBER, *DIFFERENCE), restval="", lineterminator="\n")
    writer.writeheader()
    for each in frames:
        for row in each.rows:
            writer.writerows({**_csv_about(each, row), **number} for number in _csv_numbers(result, row))
        writer.writerows({**_csv_about(each, row), "measure": COHERENT} for row in each.failed)
    return text.getvalue()


def _csv_about(frame: Frame, row: Row) -> dict[str, object]:
    place = {} if row.place is None else {"place": row.place.best, "worst_place": row.place.worst}
    return {
        "model": frame.ranking.model,
        "budget": frame.ranking.rule,
        "limit": frame.ranking.limit,
        "arm": row.arm.arm,
        "title": row.arm.title,
        "method": row.arm.method or "",
        "modality": row.arm.modality,
        "state": row.arm.state,
        "seeds": " ".join(map(str, row.arm.seeds)),
        **place,
    }


def _csv_numbers(result: StudyResult, row: Row) -> Iterator[Mapping[str, object]]:
    for name, cell in row.cells.items():
        measure = cell.measure
        yield {
            "measure": name,
            "unit": result.units.get(name, "rate"),
            "value": measure.value,
            "low": measure.interval.low,
            "high": measure.interval.high,
            "n": measure.n,
            "requests": measure.requests,
            **({} if cell.pair is None else _csv_difference(cell.pair, row.arm.name)),
        }
    if row.arm.cost is not None:
        for name, unit in COST_UNITS.items():
            yield {"measure": name, "unit": unit, "value": getattr(row.arm.cost, name)}
        for name, ratio in row.arm.cost.ratios.items():
            yield {"measure": f"{name}_ratio", "unit": "reference = 1", "value": ratio}


def _csv_difference(pair: Comparison, arm: str) -> dict[str, object]:
    difference, interval = words.difference(pair, arm)
    return {
        "difference": difference,
        "difference_low": interval.low,
        "difference_high": interval.high,
        "p": pair.p,
        "p_holm": pair.p_holm,
        "verdict": words.verdict(pair, arm),
    }


SPELLED = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "&": r"\&",
    "%": r"\%",
    "$": r"\$",
    "#": r"\#",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "`": r"\textasciigrave{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "–": "--",
    "—": "---",
    "−": "$-$",
    "×": r"$\times$",
    "†": r"$\dagger$",
}
"""Characters with a meaning in LaTeX, or in none of its fonts → how they are written."""
_SPELLED = str.maketrans(SPELLED)

MARKS = {"better": "$^{+}$", "worse": "$^{-}$", "tie": ""}
"""Verdict against the reference → the mark behind a number."""

BABBLES = r"$^{\dagger}$"
UP, DOWN = r" $\uparrow$", r" $\downarrow$"
END = r" \\"


def latex(result: StudyResult, frames: Sequence[Frame]) -> str:
    """One `table*` for each ranking, below the cautions as comments."""
    above = [r"% \usepackage{booktabs}", *(f"% {' '.join(line.split())}" for line in words.cautions(result))]
    return "\n".join(above) + "\n" + "\n".join(_latex_ranking(each) for each in frames)


def _latex_ranking(frame: Frame) -> str:
    head = ["", "Arm", *(_latex_title(column) for column in frame.columns)]
    head += [_escaped(f"× {title}") for title in RATIOS.values()]
    model = f"-{frame.ranking.model}" if len(frame.result.models) > 1 else ""
    label = re.sub(r"[^a-z0-9]+", "-", f"study-{frame.ranking.rule}{model}".lower())
    lines = [
        r"\begin{table*}[t]",
        r"\centering",
        r"\small",
        f"\\caption{{{_escaped(_caption(frame))}}}",
        f"\\label{{tab:{label}}}",
        f"\\begin{{tabular}}{{ll{'r' * (len(head) - 2)}}}",
        r"\toprule",
        " & ".join(head) + END,
        r"\midrule",
        *(" & ".join(_latex_line(frame, row)) + END for row in frame.rows),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table*}",
    ]
    return "\n".join(lines) + "\n"


def _latex_title(column: Column) -> str:
    unit = "%" if column.unit == "rate" else column.unit
    title = column.title[:1].upper() + column.title[1:]
    return _escaped(f"{title} ({unit})") + (UP if column.higher_is_better else DOWN)


def _latex_line(frame: Frame, row: Row) -> list[str]:
    cells = [_latex_cell(frame.result, row, column) for column in frame.columns]
    cost = [_escaped(text.removeprefix("× ")) or "--" for text in row.times()]
    title = _escaped(row.arm.title) + (BABBLES if words.babbles(frame.result, row.arm) else "")
    return [_escaped(row.places()), title, *cells, *cost]


def _latex_cell(result: StudyResult, row: Row, column: Column) -> str:
    cell = row.cells.get(column.name)
    if cell is None:
        return "--"
    mark = "" if cell.pair is None else MARKS[words.verdict(cell.pair, row.arm.name)]
    value = _escaped(words.value(result, column.name, cell.measure).removesuffix("%"))
    return f"{value}{mark} {{\\scriptsize {_escaped(words.span(result, column.name, cell.measure))}}}"


def _escaped(text: str) -> str:
    """Text as LaTeX prints it, on one line."""
    return " ".join(text.split()).translate(_SPELLED)


def _caption(frame: Frame) -> str:
    """How to read the numbers: the equal budget, seeds, intervals, the test, the judge, and what is missing."""
    result, ranking = frame.result, frame.ranking
    title = result.title if result.title.endswith(("?", "!", ".")) else f"{result.title}."
    lines = [
        f"{title} {words.heading(result, ranking)}.",
        f"Seed{'' if len(result.seeds) == 1 else 's'} {', '.join(map(str, result.seeds))}.",
        f"Small: 95% intervals (over {words.drawn_from(result)}). Places such as 1–3 are ties.",
    ]
    if (own := words.reference_in(result, ranking)) is not None:
        lines.append(
            f"Raised + and −: better and worse than {result.find(own).title} (paired sign flips, p < {ALPHA} after "
            "Holm's correction, and an interval without 0). ×: times its cost."
        )
    if any(words.babbles(result, row.arm) for row in frame.rows):
        points = f"{100 * MAX_DEGENERATE:.0f} points"
        lines.append(f"†: its answers to attacks are babble over {points} more often than the original's.")
    lines.append(f"Judge {result.judge.name}: {words.judged(result)}.")
    if frame.failed:
        lines.append(f"Without a result: {', '.join(row.arm.title for row in frame.failed)}.")
    lines += [
        f"{row.arm.title}: without seed {', '.join(str(run.seed) for run in row.arm.failed)}."
        for row in frame.rows
        if row.arm.failed
    ]
    return " ".join(lines)


FORMS: Mapping[str, Callable[[StudyResult, Sequence[Frame]], str]] = {
    "latex": latex,
    "csv": csv_lines,
    "markdown": markdown,
}
"""Forms of a table by name."""
