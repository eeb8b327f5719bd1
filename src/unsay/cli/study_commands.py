"""Commands of studies and of many runs: `study`, `study-table` and `runs`."""

from pathlib import Path
from typing import Annotated

import typer

from unsay.cli.display import complain, console, display, say
from unsay.cli.options import DataDir, split_names

COLOURS = {"running": "yellow", "finished": "green", "failed": "red", "interrupted": "magenta"}
"""Of a status in the terminal."""


def study(
    name: Annotated[
        str | None, typer.Argument(metavar="STUDY", help="A packaged study (see --list), or a study file in YAML.")
    ] = None,
    listing: Annotated[bool, typer.Option("--list", help="List the packaged studies.")] = False,
    model: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="`pocket`, a checkpoint folder, or a model id. Default: the study's."),
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Fewer steps, prompts and seeds.")] = False,
    base: Annotated[
        str | None,
        typer.Option(
            metavar="PRESET|FILE",
            help="In place of the study's base, for models other than `pocket`: a preset such as llava-1.5-7b, or a "
            "file of settings. Sets the model too, unless --model is given.",
        ),
    ] = None,
    arms: Annotated[
        str,
        typer.Option(
            metavar="NAMES",
            help="Only these arms, comma-separated, to spread a study over several jobs. The reference is added where "
            "it sets the budget of others.",
        ),
    ] = "",
    seeds: Annotated[str, typer.Option(metavar="NUMBERS", help="Seeds, comma-separated. Default: the study's.")] = "",
    device: Annotated[str | None, typer.Option(metavar="NAME", help="Torch device. Default: the study's.")] = None,
    launcher: Annotated[
        str, typer.Option(metavar="NAME", help="`sequential`, or `ray` (needs the extra `ray`).")
    ] = "sequential",
    out: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="Study directory; finished runs in it are kept. Default: runs/study-STUDY."),
    ] = None,
    known: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="FILE",
            help="runs.jsonl of the same study from elsewhere, whose runs are not repeated. May be given several "
            "times.",
        ),
    ] = None,
    data_dir: DataDir = None,
) -> None:
    """Compare methods, data and budgets: every arm trained, evaluated and ranked side by side.

    If a run fails, the others are still done and reported, and the exit code is 1.
    """
    from unsay.studies.settings import packaged, parse_study, read_study

    if listing or name is None:
        for packed, file in packaged().items():
            say(f"{packed:12} {parse_study(file.read_text(encoding='utf-8'), packed).title}")
        return
    from unsay import api
    from unsay.studies import tables, words
    from unsay.studies.study_plan import adjusted

    chosen = adjusted(read_study(name), base=base, arms=arms, model=model, seeds=seeds, device=device, quick=quick)
    if arms and (added := [arm for arm in chosen.arms if arm not in split_names(arms)]):
        say(f"Also {', '.join(added)}, the reference: what it uses is the budget of the others.")
    folder = out or Path("runs") / f"study-{Path(name).stem}{'-quick' if quick else ''}"
    other = None if launcher == "sequential" else launcher
    options = {"model": model, "seeds": seeds, "device": device, "launcher": other, "base": base, "arms": arms}
    command = ["unsay study", name, *["--quick"] * quick]
    command += [f"--{option} {value}" for option, value in options.items() if value]
    with display() as progress:
        result = api.study(
            chosen, folder, launch=launcher, progress=progress, command=" ".join(command), known=known or ()
        )
    console.print()
    console.print(tables.terminal_table(result))
    say(f"\nReport: {folder / 'study.html'}")
    if (failed := words.unfinished(result)) is not None:
        complain(f"{failed}; the same command tries them again")
        raise typer.Exit(1)


def study_table(
    study: Annotated[Path, typer.Argument(metavar="DIR", help="A study's directory, or its study.json.")],
    form: Annotated[
        str,
        typer.Option("--format", metavar="NAME", help="`latex` (booktabs), `csv` (one number a line) or `markdown`."),
    ] = "markdown",
    budget: Annotated[
        str | None,
        typer.Option(metavar="RULE", help="`steps`, `tokens` or `seconds`. Default: all that the study has."),
    ] = None,
) -> None:
    """Print a finished study's rankings as tables for a paper, a page, or a statistics program."""
    from unsay.studies.schema import read_result, result_file
    from unsay.studies.tables import table

    # Not the console, which would fold long lines: a file or another program reads this.
    typer.echo(table(read_result(result_file(study)), form, budget), nl=False)


def runs(
    folder: Annotated[Path, typer.Argument(metavar="DIR", help="Folder of run and study directories.")] = Path("runs"),
    page: Annotated[
        bool, typer.Option("--page/--no-page", help="Write index.html there, which links the reports.")
    ] = True,
) -> None:
    """List runs and studies: which are running, finished, failed or interrupted, their headline and their cost."""
    from rich.padding import Padding
    from rich.text import Text

    from unsay.reports.numbers import seconds
    from unsay.reports.overview import write_index
    from unsay.studies.found_runs import find_runs

    lines = find_runs(folder)
    for line in lines:
        head = Text.assemble(
            (line.name, "bold"),
            "  ",
            (line.status, COLOURS[line.status]),
            "  study" if line.kind == "study" else "",
            f"  {seconds(line.seconds)}" if line.seconds else "",
            f", about {seconds(line.remaining)} left" if line.remaining is not None else "",
        )
        console.print(head)
        console.print(Padding(Text(line.sentence, style="dim"), (0, 0, 0, 2)))
    if not lines:
        say(f"{folder}: no run and no study in it")
    elif page:
        say(f"\nIndex: {write_index(folder, lines)}")
