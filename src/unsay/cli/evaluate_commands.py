"""Commands of evaluation: `evaluate`, `compare`, and the lists `suites` and `methods`."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from unsay.cli.display import console, display, say, show_scores
from unsay.cli.options import SUITE_FILE_ROW, DataDir, Out, limit_of, split_names
from unsay.errors import UserError

SIDE = "Directory of `unsay evaluate` or `unsay unlearn`; DIR:before or DIR:after names a phase. Default: the last."


def evaluate(
    out: Out,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Settings in YAML, as for `unsay unlearn`: precision, a judge with settings, a server that answers. "
            "Options override it.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="`pocket`, a checkpoint folder, or a model id. Default: that of the adapter's run, else `pocket`.",
        ),
    ] = None,
    adapter: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Trained adapter: evaluate the model without and with it.")
    ] = None,
    suite_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help=f"Your own prompts, alone or beside the suites that --suites names. {SUITE_FILE_ROW}",
        ),
    ] = None,
    suites: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            help="Suites, comma-separated (`unsay suites` lists them); `all-available` is every suite that can be run "
            "here, `development` and `reporting` are those to choose a recipe on and to quote. Default: the standard "
            "suites.",
        ),
    ] = "",
    limit: Annotated[
        str,
        typer.Option(
            metavar="N|all", help="Prompts per suite at most, stratified by category; `all` for no limit. Default: 64."
        ),
    ] = "",
    judge: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="`unsay judges` lists them; those with settings need --config. Default: `probe`."
        ),
    ] = None,
    device: Annotated[str | None, typer.Option(metavar="NAME", help="Torch device. Default: `cpu`.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Evaluate a model on suites or on your own prompts, and judge the answers."""
    from unsay.config import RunConfig, model_of, read_config

    if suite_file is not None and limit and not suites:
        raise UserError("--limit: your own prompts (--suite-file) are always evaluated in full: name --suites too")
    evaluation: dict[str, Any] = {}
    names = split_names(suites)
    if names or suite_file is not None:
        evaluation["suites"] = names
    if limit:
        evaluation["limit"] = limit_of(limit)
    if judge is not None:
        evaluation |= {"judge": judge, "judge_settings": {}}
    if model is None and config is None and adapter is not None:
        model = model_of(adapter)
    options = {name: value for name, value in (("model", model), ("device", device)) if value is not None}
    from unsay import api
    from unsay.studies.settings import merge_settings

    under = {} if config is None else read_config(config).model_dump(exclude={"train": {"seed"}})
    settings = RunConfig.model_validate(merge_settings(under, {**options, "evaluation": evaluation}))
    with display() as progress:
        scores = api.evaluate(settings, out, adapter=adapter, suite_file=suite_file, progress=progress)
    show_scores(scores, out)


def compare(
    before: Annotated[str, typer.Argument(metavar="BEFORE", help=SIDE)],
    after: Annotated[str, typer.Argument(metavar="AFTER", help="What it is compared with, named the same way.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Directory of the comparison.")],
    common: Annotated[
        bool, typer.Option("--common", help="Compare only the suites that both evaluated alike.")
    ] = False,
) -> None:
    """Pair two evaluations, such as two adapters or two servers: differences, tests and transfer in one report."""
    from unsay import api

    show_scores(api.compare(before, after, out, common=common), out)


def suites(data_dir: DataDir = None) -> None:
    """List the suites: how many prompts, their licence, and whether they are available here."""
    from unsay.suites import GENERATED, SUITES

    table = Table(box=None, header_style="bold", padding=(0, 1, 0, 0))
    for heading in ("suite", "kind", "modality"):
        table.add_column(heading, no_wrap=True)
    table.add_column("prompts", justify="right", no_wrap=True)
    table.add_column("licence", overflow="fold")
    table.add_column("here", no_wrap=True)
    missing = {suite.name: how for suite in SUITES.values() if (how := suite.missing()) is not None}
    for suite in SUITES.values():
        size = "" if suite.size is None else f"{suite.size:,}"
        here = "no" if suite.name in missing else "yes"
        table.add_row(suite.name, suite.kind, suite.modality, size, suite.licence, here)
    console.print(table)
    say(f"\n{len(SUITES) - len(missing)} of {len(SUITES)} can be run here{GENERATED}.")
    if missing:
        say("How to get the others (into the folder that --data-dir or UNSAY_DATA_DIR names):")
        for name, how in missing.items():
            say(f"  {name}: {how}")


def methods() -> None:
    """List the methods: what each does, what it needs, and the paper it is from."""
    from unsay.methods import METHODS, build_method

    table = Table("method", "examples", "original", "hidden", "paper", box=None, header_style="bold", padding=(0, 1))
    for name, entry in METHODS.items():
        needs = build_method(name).needs
        row = (", ".join(needs.parts), "yes" if needs.original else "", "yes" if needs.hidden else "")
        table.add_row(name, *row, entry.paper.split(",")[0].removeprefix("arXiv "))
    console.print(table)
    say("\noriginal: it reads the original model too; hidden: it reads hidden states.\n")
    for name, entry in METHODS.items():
        say(f"  {name:20}{entry.summary}")
    say("\nFormulas and how to choose: docs/methods.md")
