"""The table that ends a study in the terminal."""

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from unsay.reporting import numbers
from unsay.study import words
from unsay.study.schema import COHERENT, REFUSAL, Measure, Ranking, StudyResult


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
            _cell(arm.measures.get(COHERENT)),
            _cell(arm.text_attacks),
            _cell(arm.image_attacks),
            _cell(arm.measures.get(REFUSAL)),
            numbers.DASH if cost is None else f"×{cost:.2f}",
        )
    return frame


def _cell(found: Measure | None) -> Text:
    """Whole per cents: a terminal has no room for more, and the interval is wider than that."""
    if found is None:
        return Text(numbers.DASH)
    text = Text(numbers.percent(found.value, 0))
    text.append(f" {numbers.span(found.interval, 0)}", style="dim")
    return text
