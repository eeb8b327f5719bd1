"""One self-contained HTML page from `study.json`."""

from pathlib import Path

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined

from unsay.files import write_text
from unsay.reporting import numbers
from unsay.reporting.render import flatten
from unsay.study import words
from unsay.study.charts import HEIGHT, LEFT, WIDTH, tradeoffs
from unsay.study.schema import ASR, COHERENT, ArmRow, Ranking, StudyResult
from unsay.study.settings import ORIGINAL


def write_page(path: Path, result: StudyResult) -> Path:
    """Write the page, atomically, and return its path."""
    write_text(path, render(result))
    return path


def templates() -> Environment:
    """The templates of this package and of reports, with what they format numbers with."""
    environment = Environment(
        # The stylesheet and the script are those of a run's report.
        loader=ChoiceLoader([PackageLoader("unsay.study", "."), PackageLoader("unsay.reporting", ".")]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "percent": numbers.percent,
        "span": numbers.span,
        "count": numbers.count,
        "flops": numbers.flops,
        "memory": numbers.memory,
        "seconds": numbers.seconds,
        "p_value": numbers.p_value,
    }
    return environment


def render(result: StudyResult) -> str:
    """The page as text: numbers and names alone, no prompt and no answer; nothing is loaded from anywhere."""
    order = {arm.name: number for number, arm in enumerate(result.arms, start=1)}
    categories = tuple(dict.fromkeys(row.category for row in result.categories))
    page = (
        templates()
        .get_template("study.html.j2")
        .render(
            result=result,
            words=words,
            rules=words.RULES,
            order=order,
            findings=words.findings(result),
            failures=words.failures(result),
            babblers=words.babblers(result),
            plots=tradeoffs(result),
            width=WIDTH,
            height=HEIGHT,
            axis=LEFT,
            utility=[name for name in result.measures if name in result.units],
            compared=[name for name in result.measures if name != ASR],
            rows_against=lambda ranking: _against(result, ranking),
            categories=categories,
            by_category={(row.arm, row.category): row for row in result.categories},
            original=ORIGINAL,
            coherent=COHERENT,
            asr=ASR,
            judge=result.judge.headline(),
            environment=flatten(result.environment),
        )
    )
    return page.strip() + "\n"


def _against(result: StudyResult, ranking: Ranking) -> list[tuple[ArmRow, dict[str, tuple[str, str, str]]]]:
    """Each arm's differences from the reference: measure → (difference, corrected p, verdict)."""
    rows = []
    for place in ranking.places:
        cells = {}
        for measure in result.measures:
            pair = words.against(result, ranking, place.arm, measure)
            if pair is not None:
                cells[measure] = (
                    words.difference_words(result, pair, place.arm),
                    numbers.p_value(pair.p_holm),
                    words.verdict(pair, place.arm),
                )
        if cells:
            rows.append((result.find(place.arm), cells))
    return rows
