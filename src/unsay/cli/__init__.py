"""The command line: parses, calls the API, prints."""

import os
import sys
import warnings
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from typer.core import TyperGroup

from unsay import __version__
from unsay.cli.compare import compare
from unsay.cli.data import examples
from unsay.cli.display import display, end
from unsay.cli.init import init
from unsay.cli.judges import judges
from unsay.cli.plan import plan
from unsay.cli.study_table import study_table
from unsay.errors import UserError
from unsay.processes import EXIT, PreemptedError, heeding


class _InterruptedError(Exception):
    """Ctrl-C, past Typer, which would end without a word."""


class _Group(TyperGroup):
    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            raise _InterruptedError from None


app = typer.Typer(
    cls=_Group,
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_enable=False,
    help="Make a vision-language model unsay harmful answers with text alone, and measure whether it holds on images.",
    epilog="Start with [bold]unsay demo[/bold]: it needs no GPU, no account and no model hub.",
)
RANK = int(os.environ.get("RANK", "0")) if "MASTER_ADDR" in os.environ else 0
"""The number of this process, where `accelerate launch` or `torchrun` has started several."""
console = Console(quiet=RANK > 0)


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


Out = Annotated[
    Path, typer.Option(metavar="DIR", help="Run directory; finished stages in it are reused.", show_default=True)
]
ROW = 'JSONL: {"id", "prompt", "image": path or null, "kind": "attack" or "benign"}.'
"""A row of your own questions."""
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir", metavar="DIR", help="Public benchmark data, for the suites that need it (also UNSAY_DATA_DIR)."
    ),
]


@app.command()
def demo(
    out: Out = Path("runs/demo"),
    seed: Annotated[int, typer.Option(help="Seed of data, training and statistics.")] = 0,
    data_dir: DataDir = None,
) -> None:
    """Unlearn the pocket VLM on text alone, and see what that does to attacks by image."""
    _use_data(data_dir)
    from unsay import api

    with display(console) as progress:
        scores = api.demo(out, seed=seed, progress=progress)
    end(console, scores, out)


@app.command()
def unlearn(
    config: Annotated[
        Path, typer.Option(metavar="FILE", help="Settings in YAML; `unsay init` writes a commented file.")
    ],
    out: Out = Path("runs/unlearn"),
    suite_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help=f"Your own questions, asked before and after beside the suites, and kept out of the training. {ROW}",
        ),
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Evaluate, unlearn and evaluate again with your own settings."""
    from unsay.config import read_config

    _use_data(data_dir)
    settings = read_config(config)
    from unsay import api

    with display(console) as progress:
        scores = api.unlearn(settings, out, suite_file=suite_file, progress=progress)
    end(console, scores, out)


@app.command()
def evaluate(
    out: Out,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="Settings in YAML, as for `unsay unlearn`: precision, a judge with settings, a server that answers. "
            "Options given beside it go before it.",
        ),
    ] = None,
    model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="`pocket` (the default), a checkpoint folder, or a model id.")
    ] = None,
    adapter: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Trained adapter: evaluate the model without and with it.")
    ] = None,
    suite_file: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help=f"Your own questions, instead of suites or beside those that --suites names. {ROW}",
        ),
    ] = None,
    suites: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            help="Suites, comma-separated (`unsay suites` lists them); `all-available` is every one that can be run "
            "here; none given takes the standard ones.",
        ),
    ] = "",
    limit: Annotated[
        str,
        typer.Option(
            metavar="N|all", help="Prompts per suite at most, stratified by category; `all` for no limit. Default 64."
        ),
    ] = "",
    judge: Annotated[
        str | None,
        typer.Option(
            metavar="NAME", help="`unsay judges` lists them; those with settings need --config. Default `probe`."
        ),
    ] = None,
    device: Annotated[str | None, typer.Option(metavar="NAME", help="Torch device; the default is `cpu`.")] = None,
    data_dir: DataDir = None,
) -> None:
    """Ask a model suites of questions, or your own, and judge the answers."""
    from unsay.config import RunConfig, read_config

    _use_data(data_dir)
    if suite_file is not None and limit and not suites:
        raise UserError("--limit and --suite-file: of your own questions every one is asked; name the --suites too")
    evaluation: dict[str, Any] = {}
    names = tuple(name.strip() for name in suites.split(",") if name.strip())
    if names or suite_file is not None:
        evaluation["suites"] = names
    if limit:
        evaluation["limit"] = _limit(limit)
    if judge is not None:
        evaluation |= {"judge": judge, "judge_settings": {}}
    given = {name: value for name, value in (("model", model), ("device", device)) if value is not None}
    from unsay import api
    from unsay.studies.settings import merged

    under = {} if config is None else read_config(config).model_dump(exclude={"train": {"seed"}})
    settings = RunConfig.model_validate(merged(under, {**given, "evaluation": evaluation}))

    with display(console) as progress:
        scores = api.evaluate(settings, out, adapter=adapter, suite_file=suite_file, progress=progress)
    end(console, scores, out)


app.command()(compare)


@app.command()
def study(
    name: Annotated[
        str | None, typer.Argument(metavar="STUDY", help="A packaged study (see --list), or a study file in YAML.")
    ] = None,
    listing: Annotated[bool, typer.Option("--list", help="List the packaged studies.")] = False,
    model: Annotated[
        str | None, typer.Option(metavar="MODEL", help="`pocket`, a checkpoint folder, or a model id; the study's own.")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer steps, prompts and seeds.")] = False,
    base: Annotated[
        str | None,
        typer.Option(
            metavar="PRESET|FILE",
            help="In place of the study's base, for models other than `pocket`: a preset such as llava-1.5-7b, or a "
            "file of settings; its model too, unless one is named.",
        ),
    ] = None,
    arms: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            help="Only these arms, comma-separated, for one of several jobs; the reference is added where what it used "
            "is the budget of others.",
        ),
    ] = "",
    seeds: Annotated[str, typer.Option(metavar="NUMBERS", help="Seeds, comma-separated; the study's own.")] = "",
    device: Annotated[str | None, typer.Option(metavar="NAME", help="Torch device; the study's own.")] = None,
    launcher: Annotated[
        str, typer.Option(metavar="NAME", help="`sequential`, or `ray` (needs `unsay[ray]`).")
    ] = "sequential",
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Study directory; finished runs in it are kept. runs/study-STUDY."),
    ] = None,
    known: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="runs.jsonl of the same study from elsewhere: its runs are not done again. May be repeated.",
        ),
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Compare methods, data and budgets: every arm trained, evaluated and ranked side by side.

    If a run fails, the others are done and reported; the exit code is 1 then.
    """
    from unsay.studies.read import packaged, parse_study

    if listing or name is None:
        for packed, file in packaged().items():
            _say(f"{packed:12} {parse_study(file.read_text(encoding='utf-8'), packed).title}")
        return
    _use_data(data_dir)
    from unsay import api
    from unsay.studies import tables, words
    from unsay.studies.read import adjusted, listed, read_study

    chosen = adjusted(read_study(name), base=base, arms=arms, model=model, seeds=seeds, device=device, quick=quick)
    if arms and (added := [arm for arm in chosen.arms if arm not in listed(arms)]):
        _say(f"Also {', '.join(added)}, the reference: what it uses is the budget of the others.")
    folder = out or Path("runs") / f"study-{Path(name).stem}{'-quick' if quick else ''}"
    other = None if launcher == "sequential" else launcher
    given = {
        "--model": model,
        "--seeds": seeds,
        "--device": device,
        "--launcher": other,
        "--base": base,
        "--arms": arms,
    }
    options = ["--quick"] * quick + [f"{option} {value}" for option, value in given.items() if value]
    with display(console) as progress:
        result = api.study(
            chosen,
            folder,
            launch=launcher,
            progress=progress,
            command=" ".join(["unsay study", name, *options]),
            known=known or (),
        )
    console.print()
    console.print(tables.study_table(result))
    _say(f"\nReport: {folder / 'study.html'}")
    if (failed := words.unfinished(result)) is not None:
        _complain(f"{failed}; the same command tries them again")
        raise typer.Exit(1)


app.command("study-table")(study_table)
app.command()(init)


@app.command()
def export(
    run_dir: Annotated[Path, typer.Argument(metavar="RUN", help="A run directory that has unlearned.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="The folder to make.")],
    merge: Annotated[
        bool, typer.Option("--merge", help="A whole checkpoint for transformers, vLLM and others; else the adapter.")
    ] = False,
    dtype: Annotated[
        str | None, typer.Option(metavar="NAME", help="Precision of merged weights; the base model's if not given.")
    ] = None,
    device: Annotated[
        str | None, typer.Option(metavar="NAME", help="Where to merge; the run's device or device map if not given.")
    ] = None,
) -> None:
    """Write what a run learned as an adapter or a merged checkpoint, with a model card."""
    if not merge and (ignored := [f"--{name}" for name, value in (("dtype", dtype), ("device", device)) if value]):
        raise UserError(f"{' and '.join(ignored)}: without --merge the adapter is copied as it is: add --merge")
    from unsay.run.export import export as write

    done = write(run_dir, out, merge=merge, dtype=dtype, device=device)
    if done.parity is not None:
        apart = (
            f"text {done.parity.text:.2%}, picture {done.parity.image:.2%}, adapter's effect {done.parity.effect:.2%}"
        )
        _say(f"Merged in {done.dtype} and read back; logits differ from the adapter's by at most: {apart}")
        _say(f"For GGUF, with llama.cpp: python convert_hf_to_gguf.py {out} --outfile model.gguf")
        _say(f"and its picture part:     python convert_hf_to_gguf.py {out} --mmproj --outfile mmproj.gguf")
    _say(f"Export: {out}")


app.command()(plan)


@app.command()
def report(
    run_dir: Annotated[Path, typer.Argument(metavar="DIR", help="A run directory with scores.json.")],
    results: Annotated[
        list[Path] | None,
        typer.Option("--import", metavar="FILE", help="Results of lm-eval or lmms-eval, shown beside this run's own."),
    ] = None,
) -> None:
    """Write report.html of a run directory anew."""
    from unsay.report import write_report
    from unsay.report.imports import import_results

    for path in results or []:
        _say(f"Imported {import_results(run_dir, path)} numbers from {path}")
    _say(f"Report: {write_report(run_dir)}")


@app.command()
def suites(data_dir: DataDir = None) -> None:
    """List the suites: how many prompts, their licence, and whether they are available here."""
    from rich.table import Table

    from unsay.suites import GENERATED, SUITES

    _use_data(data_dir)
    table = Table(box=None, header_style="bold", padding=(0, 1, 0, 0))
    for name in ("suite", "kind", "modality"):
        table.add_column(name, no_wrap=True)
    table.add_column("prompts", justify="right", no_wrap=True)
    table.add_column("licence", overflow="fold")
    table.add_column("here", no_wrap=True)
    absent = {}
    for suite in SUITES.values():
        missing = suite.missing()
        if missing is not None:
            absent[suite.name] = missing
        size = "" if suite.size is None else f"{suite.size:,}"
        here = "yes" if missing is None else "no"
        table.add_row(suite.name, suite.kind, suite.modality, size, suite.licence, here)
    console.print(table)
    _say(f"\n{len(SUITES) - len(absent)} of {len(SUITES)} can be run here{GENERATED}.")
    if absent:
        _say("How to get the others (into the folder that --data-dir or UNSAY_DATA_DIR names):")
        for name, line in absent.items():
            _say(f"  {name}: {line}")


app.add_typer(judges, name="judges")
app.command()(examples)


@app.command()
def methods() -> None:
    """List the methods: what each does, what it needs, and the paper it is from."""
    from rich.table import Table

    from unsay.methods import METHODS, build_method

    table = Table("method", "examples", "original", "hidden", "paper", box=None, header_style="bold", padding=(0, 1))
    for name, entry in METHODS.items():
        needs = build_method(name).needs
        row = (", ".join(needs.parts), "yes" if needs.original else "", "yes" if needs.hidden else "")
        table.add_row(name, *row, entry.paper.split(",")[0].removeprefix("arXiv "))
    console.print(table)
    _say("\noriginal: it reads the original model too; hidden: it reads hidden states.\n")
    for name, entry in METHODS.items():
        _say(f"  {name:20}{entry.summary}")
    _say("\nFormulas and how to choose: docs/methods.md")


def main() -> None:
    """Run the command line; a `UserError` becomes one line on stderr and exit code 2.

    What a signal stops exits as a shell says it of a process that died of it: 143 for SIGTERM, 130 for Ctrl-C.
    """
    # A run has a display of its own; libraries' bars, and their notes to each other on coming renames, would break it.
    os.environ.setdefault("TQDM_DISABLE", "1")
    warnings.filterwarnings("ignore", category=FutureWarning)
    try:
        with heeding():
            app()
    except UserError as error:
        _complain(" ".join(str(error).split()))
        sys.exit(2)
    except PreemptedError as told:
        _say(f"unsay: {told}; run the same command again to continue")
        sys.exit(EXIT)
    except (_InterruptedError, KeyboardInterrupt):
        _complain("interrupted; run the same command again to continue")
        sys.exit(130)


def _complain(line: str) -> None:
    who = f"unsay, process {RANK}" if RANK else "unsay"
    Console(stderr=True).print(f"{who}: {line}", style="red", markup=False, highlight=False, soft_wrap=True)


def _say(line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)


def _use_data(folder: Path | None) -> None:
    if folder is None:
        return
    if not folder.is_dir():
        raise UserError(f"--data-dir: {folder}: no such folder")
    os.environ["UNSAY_DATA_DIR"] = str(folder.resolve())


def _limit(said: str) -> int | None:
    if said == "all":
        return None
    if not said.isdecimal() or int(said) < 1:
        raise UserError(f"--limit: {said!r} is neither a number from 1 nor `all`")
    return int(said)
