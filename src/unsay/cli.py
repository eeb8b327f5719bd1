"""The command line: parses, calls the API, prints."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from unsay import __version__
from unsay.errors import UserError

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Make a vision-language model unsay harmful answers with text alone, and prove that it holds on images.",
    epilog="Start with [bold]unsay demo[/bold]: it needs no GPU, no account and no model hub.",
)
console = Console()


def _version(wanted: bool) -> None:
    if wanted:
        console.print(f"unsay {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version.")
    ] = False,
) -> None:
    pass


Out = Annotated[Path, typer.Option(help="Run directory; finished stages in it are reused.")]
DataDir = Annotated[
    Path | None,
    typer.Option("--data-dir", help="Public benchmark data (also: UNSAY_DATA_DIR); adds suites that need it."),
]


@app.command()
def demo(out: Out = Path("runs/demo"), seed: Annotated[int, typer.Option(help="Seed of data and training.")] = 0,
         data_dir: DataDir = None) -> None:  # fmt: skip
    """Unlearn the pocket VLM on text alone, and see what that does to attacks by image."""
    from unsay import api

    _use_data(data_dir)
    with _live() as progress:
        scores = api.demo(out, seed=seed, progress=progress)
    _end(scores, out)


@app.command()
def unlearn(
    config: Annotated[Path, typer.Option(help="Settings, YAML; `unsay init` writes a commented one.")],
    out: Out = Path("runs/unlearn"),
    data_dir: DataDir = None,
) -> None:
    """Evaluate, unlearn and evaluate again with your own settings."""
    from unsay import api

    _use_data(data_dir)
    settings = api.read_config(config)
    with _live() as progress:
        scores = api.unlearn(settings, out, progress=progress)
    _end(scores, out)


@app.command()
def evaluate(
    out: Annotated[Path, typer.Option(help="Run directory; finished stages in it are reused.")],
    model: Annotated[str, typer.Option(help="`pocket`, a local checkpoint folder, or a model id.")] = "pocket",
    adapter: Annotated[
        Path | None, typer.Option(help="Trained adapter; the model is evaluated without and with it.")
    ] = None,
    suite_file: Annotated[
        Path | None,
        typer.Option(
            help='Your questions, JSONL: {"id", "prompt", "image": path or null, "kind": "attack" or "benign"}.'
        ),
    ] = None,
    suites: Annotated[str, typer.Option(help="Suite names, comma-separated; all available ones by default.")] = "",
    limit: Annotated[int, typer.Option(min=1, help="Prompts per suite at most.")] = 64,
    data_dir: DataDir = None,
) -> None:
    """Ask a model suites of questions, or your own, and judge the answers."""
    from unsay import api
    from unsay.config import EvaluationConfig

    _use_data(data_dir)
    if suite_file is not None and suites:
        raise UserError("--suites and --suite-file exclude each other: give one of them")
    names = tuple(name.strip() for name in suites.split(",") if name.strip())
    settings = api.RunConfig(model=model, evaluation=EvaluationConfig(suites=names, limit=limit))
    with _live() as progress:
        scores = api.evaluate(settings, out, adapter=adapter, suite_file=suite_file, progress=progress)
    _end(scores, out)


@app.command()
def init(path: Annotated[Path, typer.Argument(help="Where to write the settings.")] = Path("unsay.yaml")) -> None:
    """Write a commented starting configuration."""
    from unsay.files import write_text
    from unsay.starting_config import starting_config

    if path.exists():
        raise UserError(f"{path}: exists already; choose another name or remove it first")
    write_text(path, starting_config())
    console.print(f"Wrote {path}. Edit it, then run: unsay unlearn --config {path}")


@app.command()
def report(run_dir: Annotated[Path, typer.Argument(help="A run directory with scores.json.")]) -> None:
    """Write report.html of a run directory anew."""
    from unsay import api

    console.print(f"Report: {api.report(run_dir)}", soft_wrap=True)


@app.command()
def suites() -> None:
    """List the suites: what they ask, their licence, and whether they are available here."""
    from rich.table import Table

    from unsay.data.sources.reading import data_dir
    from unsay.suites import SUITES

    table = Table("suite", "kind", "modality", "licence", "here", box=None, header_style="bold", padding=(0, 1))
    for suite in SUITES.values():
        here = not suite.needs_data or data_dir() is not None
        table.add_row(suite.name, suite.kind, suite.modality, suite.licence, "yes" if here else "needs UNSAY_DATA_DIR")
    console.print(table)


@app.command()
def methods() -> None:
    """List the methods: what each needs, and the paper it is from."""
    from rich.table import Table

    from unsay.methods import METHODS, build_method

    table = Table("method", "roles", "reference", "paper", box=None, header_style="bold", padding=(0, 1))
    for name, entry in METHODS.items():
        needs = build_method(name).needs
        reference = ", ".join(sorted(needs.reference | needs.kl)) or "none"
        table.add_row(name, ", ".join(sorted(needs.roles)), reference, entry.paper)
    console.print(table)


def main() -> None:
    """Run the command line; a `UserError` becomes one line on stderr and exit code 2."""
    try:
        app()
    except UserError as error:
        Console(stderr=True).print(f"unsay: {error}", style="red", markup=False, soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        Console(stderr=True).print("unsay: interrupted; run the same command again to continue", style="red")
        sys.exit(130)


@contextmanager
def _live() -> Iterator[object]:
    from unsay.display import LiveProgress

    with LiveProgress(console) as progress:
        yield progress


def _use_data(folder: Path | None) -> None:
    if folder is None:
        return
    if not folder.is_dir():
        raise UserError(f"--data-dir: {folder} is no folder")
    os.environ["UNSAY_DATA_DIR"] = str(folder.resolve())


def _end(scores: object, out: Path) -> None:
    from unsay.reporting import table
    from unsay.scoring import Scores

    assert isinstance(scores, Scores)
    console.print()
    console.print(table(scores))
    console.print(f"\nReport: {out / 'report.html'}", soft_wrap=True)
