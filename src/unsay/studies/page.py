"""The page of a study: one self-contained HTML file from `study.json`."""

from pathlib import Path

from unsay.files import write_text
from unsay.reports.html import flatten, page_templates
from unsay.studies import words
from unsay.studies.figure import figure, tradeoffs
from unsay.studies.schema import COHERENT, REFUSAL, StudyResult
from unsay.studies.settings import ORIGINAL
from unsay.studies.words import frame_of


def write_page(path: Path, result: StudyResult) -> Path:
    """Write the page, atomically, and return its path."""
    write_text(path, render(result))
    return path


def render(result: StudyResult) -> str:
    """The page as text. It has numbers and names, no prompt and no answer, and loads nothing."""
    template = page_templates("unsay.studies").get_template("study.html.j2")
    page = template.render(
        result=result,
        words=words,
        order={arm.name: number for number, arm in enumerate(result.arms, start=1)},
        findings=words.findings(result),
        failures=words.failures(result),
        babblers=words.babblers(result),
        plots=[(figure(result, tradeoff.measure), tradeoff.beyond) for tradeoff in tradeoffs(result)],
        frames=[frame_of(result, ranking) for ranking in result.rankings],
        utility=[name for name in result.measures if name in result.units],
        categories=tuple(dict.fromkeys(row.category for row in result.categories)),
        by_category={(row.arm, row.category): row for row in result.categories},
        original=ORIGINAL,
        coherent=COHERENT,
        refusal=REFUSAL,
        judge=result.judge.headline(),
        environment=flatten(result.environment),
    )
    return page.strip() + "\n"
