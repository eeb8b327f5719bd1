"""Commands of training data: the list `sources`, and `examples`, made from your own data, whatever its shape."""

from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table
from rich.text import Text

from unsay.cli.display import console, display, say
from unsay.cli.options import DataDir, refuse_existing, split_names
from unsay.errors import UserError

if TYPE_CHECKING:
    from unsay.data.recipe import OwnAnswer
    from unsay.data.sources import Split
    from unsay.records import Example, Role, SourceRow
    from unsay.run.make_examples import Answering, MadeExamples
    from unsay.stages import Progress


def sources(data_dir: DataDir = None) -> None:
    """List the sources of training data: rows, modality, roles, licence, and whether they are available here."""
    from unsay.data.sources import SOURCES

    table = Table(box=None, header_style="bold", padding=(0, 1, 0, 0))
    for heading in ("source", "roles"):
        table.add_column(heading, no_wrap=True)
    table.add_column("splits", overflow="fold")
    for heading in ("licence", "here"):
        table.add_column(heading, no_wrap=True)
    missing: dict[str, str] = {}
    for source in SOURCES.values():
        lacking = {name: how for name, split in source.splits.items() if (how := split.missing) is not None}
        missing |= {f"{source.name}, {name}": how for name, how in lacking.items()}
        here = "yes" if not lacking else "part" if len(lacking) < len(source.splits) else "no"
        splits = "\n".join(_described(name, split) for name, split in source.splits.items())
        table.add_row(source.name, " ".join(source.roles), splits, source.licence.name, here)
    console.print(table)
    readable = sum(any(split.missing is None for split in source.splits.values()) for source in SOURCES.values())
    say(f"\n{readable} of {len(SOURCES)} sources can be read here. A role takes the first split that serves it.")
    if missing:
        say("How to get the others (into the folder that --data-dir or UNSAY_DATA_DIR names):")
        for name, how in missing.items():
            say(f"  {name}: {how}")


def _described(name: str, split: "Split") -> str:
    """`pictures 500 typographic`; text is not said."""
    rows = "" if split.rows is None else f" {split.rows:,}"
    return f"{name}{rows}" + ("" if split.modality == "text" else f" {split.modality}")


def examples(
    path: Annotated[
        Path,
        typer.Argument(
            metavar="IN",
            help='JSONL, each row {"prompt"}, {"prompt", "response"}, {"prompt", "chosen", "rejected"} or '
            '{"messages"} or {"conversations"}, and "image" where it has a picture.',
        ),
    ],
    out: Annotated[Path, typer.Option(metavar="FILE", help="Where to write the examples, for data.examples.")],
    role: Annotated[
        str | None,
        typer.Option(
            metavar="ROLE",
            help="forget, refuse or retain: the role of rows without one. Of a preference pair, `rejected` is an "
            "answer to forget and `chosen` one to refuse with.",
        ),
    ] = None,
    prompt_field: Annotated[
        str | None, typer.Option(metavar="NAME", help="Field of the prompt. Default: `prompt`.")
    ] = None,
    response_field: Annotated[
        str | None, typer.Option(metavar="NAME", help="Field of the answer. Default: `response` or `answer`.")
    ] = None,
    refusals: Annotated[int, typer.Option(min=1, help="Packaged refusals for each refuse row without an answer.")] = 3,
    with_refusals: Annotated[
        bool, typer.Option("--with-refusals", help="Add refuse examples for forget requests that have none.")
    ] = False,
    answer_with: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A run's settings: their model answers rows without an answer. Forget answers are kept if their judge "
            "finds them harmful, retain answers always.",
        ),
    ] = None,
    drop_overlaps: Annotated[
        bool, typer.Option("--drop-overlaps", help="Leave out examples whose request is in a suite, or nearly.")
    ] = False,
    suites: Annotated[
        str, typer.Option(metavar="NAMES", help="Suites for --drop-overlaps, comma-separated. Default: the standard.")
    ] = "",
    model: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Count answers that are too long in its tokens; no weights are loaded."),
    ] = None,
    max_answer_tokens: Annotated[
        int | None, typer.Option(min=1, help="Longest answer in tokens, for --model. Default: train.max_answer_tokens.")
    ] = None,
    skip_broken: Annotated[
        bool, typer.Option("--skip-broken", help="Leave out invalid rows instead of stopping.")
    ] = False,
    data_dir: DataDir = None,
) -> None:
    """Make training examples from your own data, whatever its shape; no text is printed."""
    from unsay.data.row_formats import Fields
    from unsay.files import write_rows
    from unsay.run import make_examples
    from unsay.run.overlap import overlap_summary

    refuse_existing(out)
    if suites and not drop_overlaps:
        raise UserError("--suites: without --drop-overlaps no suite is read: add it")
    if max_answer_tokens is not None and model is None and answer_with is None:
        raise UserError("--max-answer-tokens: without --model no tokens are counted: add it")
    making = make_examples.MakeSettings(
        role=_role(role),
        fields=Fields(prompt_field, response_field),
        refusals=refusals,
        refuse_too=with_refusals,
        skip_broken=skip_broken,
    )
    with display() as progress:
        answering = None if answer_with is None else _answering(answer_with, out, progress)
        made = make_examples.make_examples(path, making, answering)
    names = split_names(suites)
    rows, overlaps = make_examples.drop_overlaps(made.examples, names) if drop_overlaps else (made.examples, [])
    tokenizer, limit = _tokenizer(model, answer_with, max_answer_tokens)
    cut = None if tokenizer is None or not rows else make_examples.count_cut(rows, tokenizer, limit)
    if rows:
        write_rows(out, make_examples.relative_to(out.absolute().parent, rows))
    console.print(_table(rows, cut, limit))
    for line in _lines(made):
        say(line)
    if overlaps:
        say(f"Dropped because suites ask them: {len({row.id for row in overlaps}):,} ({overlap_summary(overlaps)})")
    if not rows:
        raise UserError(f"{path}: all of its {len(made.examples):,} examples are in suites; nothing was written")
    say(f"Wrote {out}. Point data.examples to it.")


def _role(name: str | None) -> "Role | None":
    from unsay.records import Role

    if name is not None and name not in list(Role):
        raise UserError(f"--role: unknown '{name}'; known are {', '.join(Role)}")
    return None if name is None else Role(name)


def _answering(config: Path, out: Path, progress: "Progress") -> "Answering":
    """Ask the model of a run's settings; its answers are kept beside `out`, so that the same command resumes."""
    from unsay.config import read_config
    from unsay.processes import refuse_several
    from unsay.records import Role
    from unsay.run.directory import Run
    from unsay.run.own_answers import normal_answers, own_answers

    refuse_several("examples")
    settings = read_config(config)
    if settings.evaluation.responder is not None:
        raise UserError(
            f"{config}: evaluation.responder: examples need the answers of the model that will be trained, not a "
            "server's: remove it, and name that checkpoint as `model`"
        )

    @cache  # one run for both roles: the model is loaded at most once
    def run() -> Run:
        return Run.open(out.with_name(f"{out.stem}-answers"), settings, progress)

    def ask(role: Role, rows: "list[SourceRow]") -> "list[OwnAnswer]":
        return own_answers(run(), rows).harmful if role is Role.FORGET else normal_answers(run(), rows)

    return ask


def _tokenizer(model: str | None, config: Path | None, limit: int | None) -> tuple[str | None, int]:
    """The model whose tokens are counted, and the longest answer; options override the run's settings."""
    from unsay.config import RunConfig, read_config

    settings = RunConfig() if config is None else read_config(config)
    return model or (None if config is None else settings.model), limit or settings.train.max_answer_tokens


def _table(rows: "list[Example]", cut: "dict[Role, int] | None", limit: int) -> Table:
    from unsay.records import Role

    table = Table(box=None, header_style="bold", padding=(0, 2, 0, 0))
    table.add_column("role")
    for heading in ["examples", "requests", "pictures", *([] if cut is None else [f"over {limit} tokens"])]:
        table.add_column(heading, justify="right")
    for role in Role:
        mine = [row for row in rows if row.role is role]
        requests, pictures = {row.request or row.prompt for row in mine}, [row for row in mine if row.image is not None]
        cells = [len(mine), len(requests), len(pictures), *([] if cut is None else [cut.get(role, 0)])]
        table.add_row(Text(role), *(f"{cell:,}" for cell in cells))
    return table


def _lines(made: "MadeExamples") -> list[str]:
    """What was left out, in counts and line numbers."""
    from unsay.run.make_examples import describe_broken

    lines = []
    for role, asked in made.asked.items():
        kept = "harmful" if role == "forget" else "an answer"
        lines.append(f"Asked for {role} answers: {asked:,} requests, {asked - made.unanswered[role]:,} of them {kept}")
    if made.repeated:
        lines.append(f"Dropped as exact duplicates: {made.repeated:,}")
    if made.broken:
        lines.append(f"Left out as broken: {describe_broken(made.broken)}")
    return lines
