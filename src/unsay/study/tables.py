"""A study's rankings as tables: LaTeX for a paper, CSV for a statistics program, Markdown for a page."""

from collections.abc import Callable, Iterable, Mapping, Sequence

from unsay.errors import UserError
from unsay.study import words
from unsay.study.cells import RATIOS, Column, columns, times
from unsay.study.latex import latex_tables
from unsay.study.schema import ArmRow, Ranking, StudyResult
from unsay.study.tidy import tidy


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
