r"""Rankings of a study as tables: terminal, Markdown, LaTeX, CSV.

A study's rankings as tables: LaTeX for a paper, CSV for a statistics program, Markdown for a page.

Rankings as tables in LaTeX, which need `\usepackage{booktabs}` and nothing else.

Rankings as one CSV for statistics programs: a line for each arm and number, at full precision.

What a ranking shows of an arm, for every table that is made of one.

The table that ends a study in the terminal.
"""

import csv
import io
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from unsay.errors import UserError
from unsay.reports import numbers
from unsay.scoring.limits import MAX_DEGENERATE
from unsay.studies import words
from unsay.studies.compare import ALPHA
from unsay.studies.schema import ASR, COHERENT, REFUSAL, ArmRow, Cost, Measure, Place, Ranking, StudyResult

RATIOS = {"tokens": "tokens", "flops": "operations", "seconds": "seconds"}
"""Costs that stand in a ranking, as many times those of the reference: name → title."""


@dataclass(frozen=True)
class Column:
    """One measure of a ranking.

    Attributes:
        name: as in `study.json`.
        title: for people.
        higher: whether more is better.
        of: what an arm has of it.
    """

    name: str
    title: str
    higher: bool
    of: Callable[[ArmRow], Measure | None]


def columns(result: StudyResult) -> list[Column]:
    """The measures of a ranking; every utility suite has one."""
    utility = [name for name in result.measures if name in result.units]
    return [
        measured(COHERENT, "coherent safety", higher=True),
        Column("text_attacks", "ASR, text", False, lambda arm: arm.text_attacks),
        Column("image_attacks", "ASR, image", False, lambda arm: arm.image_attacks),
        measured(REFUSAL, "over-refusal", higher=False),
        *(measured(name, result.measures[name], higher=name in result.higher_is_better) for name in utility),
    ]


def measured(name: str, title: str, *, higher: bool) -> Column:
    """A measure that arms are compared in."""
    return Column(name, title, higher, lambda arm: arm.measures.get(name))


def times(arm: ArmRow) -> list[str]:
    """What its training took, as `× 1.20` of the reference's; empty where that is not known."""
    ratios = arm.cost.ratios if arm.cost is not None else {}
    return [f"× {ratios[name]:.2f}" if name in ratios else "" for name in RATIOS]


def absent(result: StudyResult, ranking: Ranking) -> list[ArmRow]:
    """Arms that the ranking would have, had they not failed."""
    return [
        arm for arm in result.arms if arm.state == "failed" and arm.model == ranking.model and ranking.rule in arm.rules
    ]


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
"""What means something to LaTeX, or is in none of its fonts → how it is written."""
_SPELLED = str.maketrans(SPELLED)

MARKS = {"better": "$^{+}$", "worse": "$^{-}$", "tie": ""}
"""Verdict against the reference → what stands behind a number."""

BABBLES = r"$^{\dagger}$"
UP, DOWN = r" $\uparrow$", r" $\downarrow$"
END = r" \\"


def latex(text: str) -> str:
    """Text as LaTeX prints it, on one line."""
    return " ".join(text.split()).translate(_SPELLED)


def latex_tables(result: StudyResult, rankings: Sequence[Ranking]) -> str:
    """One table for each ranking; what a reader must know besides stands above them as comments."""
    above = [r"% \usepackage{booktabs}", *(f"% {' '.join(line.split())}" for line in words.cautions(result))]
    return "\n".join(above) + "\n" + "\n".join(_table(result, ranking) for ranking in rankings)


def _table(result: StudyResult, ranking: Ranking) -> str:
    shown = columns(result)
    head = ["", "Arm", *(_latex_title(result, column) for column in shown)]
    head += [latex(f"× {title}") for title in RATIOS.values()]
    several = f"-{ranking.model}" if len(result.models) > 1 else ""
    label = re.sub(r"[^a-z0-9]+", "-", f"study-{ranking.rule}{several}".lower())
    lines = [
        r"\begin{table*}[t]",
        r"\centering",
        r"\small",
        f"\\caption{{{latex(_caption(result, ranking))}}}",
        f"\\label{{tab:{label}}}",
        f"\\begin{{tabular}}{{ll{'r' * (len(head) - 2)}}}",
        r"\toprule",
        " & ".join(head) + END,
        r"\midrule",
        *(" & ".join(_line(result, ranking, place, shown)) + END for place in ranking.places),
        r"\bottomrule",
        r"\end{tabular}",
        r"\end{table*}",
    ]
    return "\n".join(lines) + "\n"


def _latex_title(result: StudyResult, column: Column) -> str:
    unit = "%" if words.is_rate(result, column.name) else result.units[column.name]
    title = column.title[:1].upper() + column.title[1:]
    return latex(f"{title} ({unit})") + (UP if column.higher else DOWN)


def _line(result: StudyResult, ranking: Ranking, place: Place, shown: Sequence[Column]) -> list[str]:
    arm = result.find(place.arm)
    cells = [_latex_cell(result, ranking, arm, column) for column in shown]
    cost = [latex(text.removeprefix("× ")) or "--" for text in times(arm)]
    title = latex(arm.title) + (BABBLES if words.babbles(result, arm) else "")
    return [latex(words.place_words(place)), title, *cells, *cost]


def _latex_cell(result: StudyResult, ranking: Ranking, arm: ArmRow, column: Column) -> str:
    found = column.of(arm)
    if found is None:
        return "--"
    pair = words.against(result, ranking, arm.name, column.name)
    mark = "" if pair is None else MARKS[words.verdict(pair, arm.name)]
    value = latex(words.value(result, column.name, found).removesuffix("%"))
    return f"{value}{mark} {{\\scriptsize {latex(words.span(result, column.name, found))}}}"


def _caption(result: StudyResult, ranking: Ranking) -> str:
    """What the numbers need to be read: what is equal, over what they are, by which test, and by which judge."""
    redrawn = "requests and seeds" if len(result.seeds) > 1 else "requests"
    title = result.title if result.title.endswith(("?", "!", ".")) else f"{result.title}."
    said = [
        f"{title} {words.heading(result, ranking)}.",
        f"Seed{'' if len(result.seeds) == 1 else 's'} {', '.join(map(str, result.seeds))}.",
        f"Small: 95% intervals ({redrawn} redrawn). Places such as 1–3 are ties.",
    ]
    if (own := words.reference_in(result, ranking)) is not None:
        said.append(
            f"Raised + and −: better and worse than {result.find(own).title} (paired sign flips, p < {ALPHA} after "
            "Holm's correction, and an interval without 0). ×: times its cost."
        )
    ranked = [result.find(place.arm) for place in ranking.places]
    if any(words.babbles(result, arm) for arm in ranked):
        said.append(f"†: over {MAX_DEGENERATE:.0%} of its answers to attacks are babble, and more than untrained.")
    said.append(f"Judge {result.judge.name}: {words.judged(result)}.")
    if lost := absent(result, ranking):
        said.append(f"Without a result: {', '.join(arm.title for arm in lost)}.")
    said += [
        f"{arm.title}: without seed {', '.join(str(run.seed) for run in arm.failed)}." for arm in ranked if arm.failed
    ]
    return " ".join(said)


ARM = ("model", "budget", "limit", "place", "worst_place", "arm", "title", "method", "modality", "state", "seeds")
NUMBER = ("measure", "unit", "value", "low", "high", "n", "requests")
AGAINST = ("difference", "difference_low", "difference_high", "p", "p_holm", "verdict")
"""The arm against the reference: empty for the reference itself, and for what is not compared."""

COSTS = {
    "steps": "steps",
    "tokens": "tokens",
    "image_tokens": "tokens",
    "flops": "operations",
    "seconds": "seconds",
    "peak_memory_bytes": "bytes",
}
"""Costs of training by name → unit; means over the seeds."""


def tidy(result: StudyResult, rankings: Sequence[Ranking]) -> str:
    """The whole file: rates are fractions, what there is not is empty, a failed arm has one line without numbers."""
    text = io.StringIO()
    writer = csv.DictWriter(text, (*ARM, *NUMBER, *AGAINST), restval="", lineterminator="\n")
    writer.writeheader()
    for ranking in rankings:
        for place in ranking.places:
            arm = result.find(place.arm)
            about = {**_about(ranking, arm), "place": place.best, "worst_place": place.worst}
            writer.writerows({**about, **number} for number in _numbers(result, ranking, arm))
        writer.writerows({**_about(ranking, arm), "measure": COHERENT} for arm in absent(result, ranking))
    return text.getvalue()


def _about(ranking: Ranking, arm: ArmRow) -> dict[str, object]:
    return {
        "model": ranking.model,
        "budget": ranking.rule,
        "limit": ranking.limit,
        "arm": arm.arm,
        "title": arm.title,
        "method": arm.method or "",
        "modality": arm.modality,
        "state": arm.state,
        "seeds": " ".join(map(str, arm.seeds)),
    }


def _numbers(result: StudyResult, ranking: Ranking, arm: ArmRow) -> Iterator[Mapping[str, object]]:
    pooled = measured(ASR, "ASR", higher=False)
    babble = Column("degenerate", "babble", False, lambda arm: arm.degenerate)
    for column in (*columns(result), pooled, babble):
        if (found := column.of(arm)) is not None:
            yield {
                "measure": column.name,
                "unit": result.units.get(column.name, "rate"),
                "value": found.value,
                "low": found.interval.low,
                "high": found.interval.high,
                "n": found.n,
                "requests": found.requests,
                **_against(result, ranking, arm, column.name),
            }
    if arm.cost is not None:
        yield from _cost(arm.cost)


def _against(result: StudyResult, ranking: Ranking, arm: ArmRow, measure: str) -> dict[str, object]:
    pair = words.against(result, ranking, arm.name, measure)
    if pair is None:
        return {}
    sign = 1 if pair.first == arm.name else -1
    low, high = sorted((sign * pair.interval.low, sign * pair.interval.high))
    return {
        "difference": sign * pair.difference,
        "difference_low": low,
        "difference_high": high,
        "p": pair.p,
        "p_holm": pair.p_holm,
        "verdict": words.verdict(pair, arm.name),
    }


def _cost(cost: Cost) -> Iterator[Mapping[str, object]]:
    for name, unit in COSTS.items():
        yield {"measure": name, "unit": unit, "value": getattr(cost, name)}
    for name, ratio in cost.ratios.items():
        yield {"measure": f"{name}_ratio", "unit": "reference = 1", "value": ratio}


def table(result: StudyResult, form: str, rule: str | None = None) -> str:
    """The rankings of a study, ready to be printed.

    Args:
        result: the study.
        form: `latex`, `csv` or `markdown`.
        rule: `steps`, `tokens` or `seconds`; all that the study has if not given.

    Raises:
        UserError: there is no such form, or the study has no such rule.
    """
    if form not in FORMS:
        raise UserError(f"--format: unknown '{form}'; known are {', '.join(FORMS)}")
    rules = dict.fromkeys(ranking.rule for ranking in result.rankings)
    if rule is not None and rule not in rules:
        raise UserError(f"--budget: this study has no arms at equal '{rule}'; it has {', '.join(rules) or 'none'}")
    return FORMS[form](result, [ranking for ranking in result.rankings if rule in (None, ranking.rule)])


def markdown_tables(result: StudyResult, rankings: Sequence[Ranking]) -> str:
    """Rankings, each under its heading, and what a reader must know."""
    parts = []
    for ranking in rankings:
        parts += [f"**{words.heading(result, ranking)}**", markdown_table(result, ranking)]
    parts.append("\n".join(f"- {line}" for line in words.cautions(result)))
    return "\n\n".join(part for part in parts if part) + "\n"


def markdown_table(result: StudyResult, ranking: Ranking) -> str:
    """One ranking."""
    shown = columns(result)
    lines = []
    for place in ranking.places:
        arm = result.find(place.arm)
        lines.append([words.place_words(place), arm.title, *(_cell(result, c, arm) for c in shown), *times(arm)])
    return pipes(["", "arm", *(_title(result, column) for column in shown), *RATIOS.values()], lines)


def _title(result: StudyResult, column: Column) -> str:
    """Of a utility suite with what is better, and with its unit."""
    if column.name not in result.units:
        return column.title
    unit = "" if words.is_rate(result, column.name) else f", {result.units[column.name]}"
    return f"{column.title} ({'higher' if column.higher else 'lower'} is better{unit})"


def _cell(result: StudyResult, column: Column, arm: ArmRow) -> str:
    found = column.of(arm)
    if found is None:
        return ""
    return f"{words.value(result, column.name, found)} ({words.span(result, column.name, found)})"


def pipes(head: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """A table in Markdown; nothing if it has no lines. Where the first column has no title, the second is text too."""
    rows = [[cell.replace("|", "\\|").replace("\n", " ") for cell in line] for line in lines]
    if not rows:
        return ""
    rule = ["---", *("---:" for _ in head[1:])]
    if not head[0]:
        rule[1] = "---"
    return "\n".join("| " + " | ".join(line) + " |" for line in [list(head), rule, *rows])


FORMS: Mapping[str, Callable[[StudyResult, Sequence[Ranking]], str]] = {
    "latex": latex_tables,
    "csv": tidy,
    "markdown": markdown_tables,
}
"""How a table can be written."""


def study_table(result: StudyResult) -> RenderableType:
    """Rankings, one below the other, and what a reader must know; fits 80 columns."""
    parts: list[RenderableType] = []
    for ranking in result.rankings:
        parts += [_ranking(result, ranking), ""]
    parts += [Text(f"{line}") for line in words.findings(result)]
    parts.append(Text("1–3 is a tie: the data does not support saying which of these places it is.", style="dim"))
    parts += [Text(f"! {line}", style="bold red") for line in words.cautions(result)]
    return Group(*parts)


def _ranking(result: StudyResult, ranking: Ranking) -> Table:
    frame = Table(
        title=words.heading(result, ranking),
        title_justify="left",
        title_style="bold",
        box=None,
        expand=True,
        padding=(0, 1, 0, 0),
    )
    frame.add_column("", no_wrap=True)
    frame.add_column("arm", ratio=1, overflow="fold", header_style="dim")
    for name in ("coherent", "ASR text", "ASR image", "refused"):
        frame.add_column(name, justify="right", no_wrap=True, header_style="dim")
    frame.add_column("cost", justify="right", no_wrap=True, header_style="dim")
    for place in ranking.places:
        arm = result.find(place.arm)
        cost = arm.cost.ratios.get("flops") if arm.cost is not None else None
        frame.add_row(
            words.place_words(place),
            Text(arm.title, style="bold" if arm.arm == result.reference else ""),
            _terminal_cell(arm.measures.get(COHERENT)),
            _terminal_cell(arm.text_attacks),
            _terminal_cell(arm.image_attacks),
            _terminal_cell(arm.measures.get(REFUSAL)),
            numbers.DASH if cost is None else f"×{cost:.2f}",
        )
    return frame


def _terminal_cell(found: Measure | None) -> Text:
    """Whole per cents: a terminal has no room for more, and the interval is wider than that."""
    if found is None:
        return Text(numbers.DASH)
    text = Text(numbers.percent(found.value, 0))
    text.append(f" {numbers.span(found.interval, 0)}", style="dim")
    return text
