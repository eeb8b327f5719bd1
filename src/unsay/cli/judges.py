"""The commands `unsay judges` (a list) and `unsay judges calibrate`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console, RenderableType
from rich.table import Table
from rich.text import Text

from unsay.cli.display import display
from unsay.errors import UserError

if TYPE_CHECKING:
    from unsay.judges.calibrate import CalibrationReport, SetResult

judges = typer.Typer(invoke_without_command=True, no_args_is_help=False, rich_markup_mode="rich")
console = Console()

NUMBERS = (
    ("accuracy", "accuracy"),
    ("balanced_accuracy", "balanced"),
    ("precision", "precision"),
    ("recall", "recall"),
    ("auc", "AUC"),
    ("kappa", "kappa"),
)
"""Field of a calibration, and how it is called; two stand in a line."""


@judges.callback()
def _list(context: typer.Context) -> None:
    """List the judges: what they need, and whether that is here; or calibrate one."""
    if context.invoked_subcommand is not None:
        return
    from unsay.judges import JUDGES

    table = Table(box=None, header_style="bold", padding=(0, 1))
    table.add_column("judge", no_wrap=True)
    for heading in ("what it does", "needs", "here"):
        table.add_column(heading, overflow="fold")
    for name, entry in JUDGES.items():
        table.add_row(Text(name), Text(entry.about), Text(entry.needs), Text(entry.here() or "yes"))
    console.print(table)


@judges.command()
def calibrate(
    judge: Annotated[str, typer.Option(metavar="NAME", help="The judge; its settings come from --config.")] = "",
    config: Annotated[
        Path | None, typer.Option(metavar="FILE", help="A run's settings: evaluation.judge and judge_settings.")
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help='Your own labels, JSONL: {"prompt", "response", "label": "refused", "safe", "harmful" or '
            '"degenerate"}.',
        ),
    ] = None,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", metavar="DIR", help="Public benchmark data (also UNSAY_DATA_DIR).")
    ] = None,
    limit: Annotated[int, typer.Option(min=10, help="Rows of each labelled set at most.")] = 300,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the numbers as JSON, too.")] = None,
) -> None:
    """Measure a judge against human labels; the numbers then stand beside every score that it gives."""
    from unsay.config import EvaluationConfig, read_config
    from unsay.data.sources.published import data_dir as default_data_dir
    from unsay.files import write_json
    from unsay.judges import build_judge
    from unsay.judges.calibrate import calibrate as measured
    from unsay.judges.calibrate import keep
    from unsay.judges.label_sets import label_sets

    if data_dir is not None and not data_dir.is_dir():
        raise UserError(f"--data-dir: {data_dir}: no such folder")
    asked = read_config(config).evaluation if config else EvaluationConfig(judge=judge or "probe")
    if config and judge and judge != asked.judge:
        raise UserError(f"--judge {judge}: {config} configures '{asked.judge}'; give one of the two")
    sets = label_sets(
        data_dir or default_data_dir(), labels, limit, lambda note: console.print(Text(note, style="yellow"))
    )
    built = build_judge(asked.judge, asked.judge_settings)
    with display(console) as progress:
        total = sum(len(one.rows) for one in sets)
        progress.start(f"Judge {total:,} labelled answers", total)
        report = measured(built, sets, lambda done, of: progress.update(done, of))
        progress.finish("done")
    now_kept = keep(report)
    if out is not None:
        write_json(out, report.model_dump(mode="json"))
    for line in shown(report, now_kept):
        console.print(line)


def shown(report: "CalibrationReport", kept: "CalibrationReport | None" = None) -> list[RenderableType]:
    """The report for a terminal of 80 columns: a heading per labelled set, two numbers in a line.

    Args:
        report: what was measured now.
        kept: what is kept of it and of earlier ones, and stands beside scores; None for the report itself.
    """
    from unsay.records import Label

    kept = kept or report
    lines: list[RenderableType] = [Text(f"Judge {report.judge} against people's labels, with 95% intervals")]
    for one in report.sets:
        lines += _set(one)
    lines += _kept_from_before(report, kept)
    best = kept.headline()
    if best is None:
        lines.append(Text("No clean set asks it for harm: its scores keep the accuracy that it has by itself, if any."))
    else:
        lines.append(Text(f"Scores of this judge will quote: {best.name}."))
    if (refusals := kept.headline(Label.REFUSED)) is not None:
        lines.append(Text(f"Its over-refusal will be corrected by: {refusals.name}."))
    return lines


def _kept_from_before(report: "CalibrationReport", kept: "CalibrationReport") -> list[RenderableType]:
    """What stands beside scores though it was not measured now."""
    from unsay.judges.calibrate import place

    now = {one.identity: one.calibration for one in report.sets}
    lines: list[RenderableType] = []
    for one in kept.sets:
        found, measured = one.calibration, now.get(one.identity)
        if found == measured:
            continue
        about = f"{found.n:,} answers"
        if measured is not None:
            about += f", against {measured.n:,} now" + (f" and {measured.failed:,} failed" if measured.failed else "")
        lines.append(Text(f"Kept from before: {one.name}, finding '{found.positive}' ({about}).", style="yellow"))
    if not lines:
        return []
    return [Text(""), *lines, Text(f"To forget what was kept, delete {place(report.key)}", style="dim")]


def _set(one: "SetResult") -> list[RenderableType]:
    found = one.calibration
    title = Text(f"\n{one.name}: finding '{found.positive}'", style="bold")
    clusters = f", {found.requests:,} requests" if found.requests is not None else ""
    title.append(f" ({found.positives:,} of {found.n:,}{clusters}", style="dim")
    title.append(f", {found.failed:,} failed)" if found.failed else ")", style="bold red" if found.failed else "dim")
    lines: list[RenderableType] = [title]
    if one.fitted_on:
        lines.append(Text("  This judge was fitted on these rows: the numbers are too good.", style="red"))
    if one.seen:
        lines.append(
            Text("  Its refusal rules were written with these in view: the numbers may be too good.", style="red")
        )
    if one.failing:
        lines.append(Text("  Not quoted beside scores: it gave no verdict on more than 2% of the rows.", style="red"))
    if one.unfit:
        lines.append(Text(f"  Not quoted beside scores: {one.unfit}.", style="yellow"))
    table = Table(box=None, show_header=False, padding=(0, 2, 0, 2))
    for _ in range(4):
        table.add_column(no_wrap=True)
    cells: list[Any] = []
    for field, name in NUMBERS:
        value = getattr(found, field)
        cells += [name, f"{value.value:.2f} [{value.low:.2f}, {value.high:.2f}]" if value else "-"]
    for start in range(0, len(cells), 4):
        table.add_row(*cells[start : start + 4])
    return [*lines, table]
