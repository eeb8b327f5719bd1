r"""Rankings as tables in LaTeX, which need `\usepackage{booktabs}` and nothing else."""

import re
from collections.abc import Sequence

from unsay.scoring.warn import MAX_DEGENERATE
from unsay.study import words
from unsay.study.cells import RATIOS, Column, absent, columns, times
from unsay.study.comparing import ALPHA
from unsay.study.schema import ArmRow, Place, Ranking, StudyResult

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
    head = ["", "Arm", *(_title(result, column) for column in shown)]
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


def _title(result: StudyResult, column: Column) -> str:
    unit = "%" if words.is_rate(result, column.name) else result.units[column.name]
    title = column.title[:1].upper() + column.title[1:]
    return latex(f"{title} ({unit})") + (UP if column.higher else DOWN)


def _line(result: StudyResult, ranking: Ranking, place: Place, shown: Sequence[Column]) -> list[str]:
    arm = result.find(place.arm)
    cells = [_cell(result, ranking, arm, column) for column in shown]
    cost = [latex(text.removeprefix("× ")) or "--" for text in times(arm)]
    title = latex(arm.title) + (BABBLES if words.babbles(result, arm) else "")
    return [latex(words.place_words(place)), title, *cells, *cost]


def _cell(result: StudyResult, ranking: Ranking, arm: ArmRow, column: Column) -> str:
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
