"""The command `robustness`."""

from pathlib import Path
from typing import Annotated

import typer

from unsay.cli.display import console, display, say
from unsay.cli.options import split_names
from unsay.errors import UserError


def robustness(
    run_dir: Annotated[Path | None, typer.Argument(metavar="[RUN_DIR]", help="A run that has unlearned.")] = None,
    checks: Annotated[
        str,
        typer.Option(metavar="NAMES", help="Checks, comma-separated (docs/robustness.md lists them). Default: all."),
    ] = "",
    quick: Annotated[
        bool,
        typer.Option("--quick", help="The five quickest checks in their short form, unless --checks names others."),
    ] = False,
    adapter: Annotated[
        Path | None, typer.Option(metavar="DIR", help="An adapter in PEFT format that was trained elsewhere.")
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="For an adapter that no run here has trained: its original.")
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help="For such an adapter: settings in YAML; data, judge and generation are used."
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="DIR", help="For such an adapter: directory of the result.")
    ] = None,
) -> None:
    """Attack a model that has unlearned, and its original in the same ways: does it hold?"""
    from unsay import api
    from unsay.config import RunConfig, read_config
    from unsay.reports.attacks import robustness_table
    from unsay.scoring.robustness import FILE

    folder, elsewhere = run_dir or out, model is not None or config is not None
    if folder is None or (run_dir is not None and out is not None) or elsewhere != (out is not None):
        raise UserError(
            "give RUN_DIR; or --model or --config, --adapter and --out for an adapter that was trained elsewhere"
        )
    settings = None
    if elsewhere:
        settings = RunConfig() if config is None else read_config(config)
        settings = settings if model is None else settings.model_copy(update={"model": model})
    with display() as progress:
        result = api.robustness(
            folder, checks=split_names(checks), quick=quick, adapter=adapter, config=settings, progress=progress
        )
    console.print()
    console.print(robustness_table(result))
    say(f"\nNumbers: {folder / FILE}")
    if (page := folder / "report.html").exists():
        say(f"Report: {page}")
    if all(row.failed for row in result.checks):
        raise typer.Exit(1)
