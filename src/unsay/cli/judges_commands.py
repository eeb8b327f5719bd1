"""The commands `judges` (a list) and `judges calibrate`."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import RenderableType
from rich.table import Table
from rich.text import Text

from unsay.cli.display import console, display
from unsay.cli.options import DataDir
from unsay.errors import UserError

if TYPE_CHECKING:
    from unsay.judges.calibrate import CalibrationReport, SetResult

app = typer.Typer(invoke_without_command=True, no_args_is_help=False, rich_markup_mode="rich")

NUMBERS = (
    ("accuracy", "accuracy"),
    ("balanced_accuracy", "balanced"),
    ("precision", "precision"),
    ("recall", "recall"),
    ("auc", "AUC"),
    ("kappa", "kappa"),
)
"""Fields of a calibration and their headings; two are printed on a line."""


@app.callback()
def _list(context: typer.Context) -> None:
    """List the judges: what each needs, and whether that is available here; or calibrate one."""
    if context.invoked_subcommand is not None:
        return
    from unsay.judges import JUDGES

    table = Table(box=None, header_style="bold", padding=(0, 1))
    table.add_column("judge", no_wrap=True)
    for heading in ("what it does", "needs", "here"):
        table.add_column(heading, overflow="fold")
    for name, entry in JUDGES.items():
        table.add_row(Text(name), Text(entry.about), Text(entry.needs), Text(entry.missing() or "yes"))
    console.print(table)


@app.command()
def calibrate(
    judge: Annotated[str, typer.Option(metavar="NAME", help="The judge; --config has its settings.")] = "",
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
    data_dir: DataDir = None,
    limit: Annotated[int, typer.Option(min=10, help="Rows per labelled set at most.")] = 300,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write the numbers as JSON.")] = None,
) -> None:
    """Measure a judge against human labels; the numbers are then quoted beside its scores."""
    from unsay.config import EvaluationConfig, read_config
    from unsay.data.published import data_dir as default_data_dir
    from unsay.files import write_json
    from unsay.judges import build_judge, reads_original
    from unsay.judges.calibrate import calibrate as run_calibration
    from unsay.judges.calibrate import store_calibration
    from unsay.judges.label_sets import label_sets
    from unsay.run.directory import original_of

    whole = read_config(config) if config else None
    settings = whole.evaluation if whole else EvaluationConfig(judge=judge or "probe")
    if config and judge and judge != settings.judge:
        raise UserError(f"--judge {judge}: {config} configures '{settings.judge}'; give one of the two")
    sets = label_sets(default_data_dir(), labels, limit, lambda note: console.print(Text(note, style="yellow")))
    reads = whole is not None and reads_original(settings.judge, settings.judge_settings)
    built = build_judge(settings.judge, settings.judge_settings, original_of(whole) if whole and reads else None)
    with display() as progress:
        total = sum(len(one.rows) for one in sets)
        progress.start(f"Judge {total:,} labelled answers", total)
        report = run_calibration(built, sets, lambda done, of: progress.update(done, of))
        progress.finish("done")
    kept = store_calibration(report)
    if out is not None:
        write_json(out, report.model_dump(mode="json"))
    for line in report_lines(report, kept):
        console.print(line)


def report_lines(report: "CalibrationReport", kept: "CalibrationReport | None" = None) -> list[RenderableType]:
    """A calibration for a terminal of 80 columns: a heading per labelled set, two numbers on a line.

    `kept` is everything that is kept, earlier calibrations included.
    """
    from unsay.records import Label

    kept = kept or report
    lines: list[RenderableType] = [Text(f"Judge {report.judge} against human labels, with 95% intervals")]
    for one in report.sets:
        lines += _set(one)
    lines += _kept_from_before(report, kept)
    best = kept.headline()
    if best is None:
        lines.append(Text("No clean set measures harm: its scores keep quoting the accuracy it comes with, if any."))
    else:
        lines.append(Text(f"Scores of this judge will quote: {best.name}."))
    if (refusals := kept.headline(Label.REFUSED)) is not None:
        lines.append(Text(f"Its over-refusal will be corrected by: {refusals.name}."))
    return lines


def _kept_from_before(report: "CalibrationReport", kept: "CalibrationReport") -> list[RenderableType]:
    """Earlier calibrations that are still quoted beside scores."""
    from unsay.judges.calibrate import calibration_path

    now = {one.identity: one.calibration for one in report.sets}
    lines: list[RenderableType] = []
    for one in kept.sets:
        earlier, measured = one.calibration, now.get(one.identity)
        if earlier == measured:
            continue
        about = f"{earlier.n:,} answers"
        if measured is not None:
            about += f", against {measured.n:,} now" + (f" and {measured.failed:,} failed" if measured.failed else "")
        lines.append(Text(f"Kept from before: {one.name}, finding '{earlier.positive}' ({about}).", style="yellow"))
    if not lines:
        return []
    return [Text(""), *lines, Text(f"To discard it, delete {calibration_path(report.key)}", style="dim")]


def _set(one: "SetResult") -> list[RenderableType]:
    result = one.calibration
    title = Text(f"\n{one.name}: finding '{result.positive}'", style="bold")
    clusters = f", {result.requests:,} requests" if result.requests is not None else ""
    title.append(f" ({result.positives:,} of {result.n:,}{clusters}", style="dim")
    title.append(f", {result.failed:,} failed)" if result.failed else ")", style="bold red" if result.failed else "dim")
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
        value = getattr(result, field)
        cells += [name, f"{value.value:.2f} [{value.low:.2f}, {value.high:.2f}]" if value else "-"]
    for start in range(0, len(cells), 4):
        table.add_row(*cells[start : start + 4])
    return [*lines, table]
