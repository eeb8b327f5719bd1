"""The command `unsay examples`: training examples made from data of any usual shape."""

import os
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from unsay.cli.display import display
from unsay.errors import UserError

if TYPE_CHECKING:
    from unsay.data.recipe import OwnAnswer
    from unsay.records import Example, Role, SourceRow
    from unsay.run.make_examples import Answering, Made
    from unsay.stages import Progress

console = Console()


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
            help="forget, refuse or retain: the role of rows that do not say theirs. Of preference pairs, `rejected` "
            "is to forget and `chosen` to refuse.",
        ),
    ] = None,
    prompt_field: Annotated[
        str | None, typer.Option(metavar="NAME", help="The prompt's field, if not `prompt`.")
    ] = None,
    response_field: Annotated[
        str | None, typer.Option(metavar="NAME", help="The answer's field, if not `response` or `answer`.")
    ] = None,
    refusals: Annotated[
        int, typer.Option(min=1, help="Packaged refusals for each request to refuse that has no answer.")
    ] = 3,
    with_refusals: Annotated[
        bool, typer.Option("--with-refusals", help="Also refuse each request to forget that nothing refuses yet.")
    ] = False,
    answer_with: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A run's settings: their model answers what has no answer. To forget, what their judge finds harmful "
            "is kept; to retain, whatever it says.",
        ),
    ] = None,
    drop_overlaps: Annotated[
        bool, typer.Option("--drop-overlaps", help="Leave out what a suite asks too, or nearly.")
    ] = False,
    suites: Annotated[
        str, typer.Option(metavar="NAMES", help="Those suites, comma-separated; the standard ones if not given.")
    ] = "",
    model: Annotated[
        str | None,
        typer.Option(metavar="MODEL", help="Count the answers that are too long in its tokens; no weights are loaded."),
    ] = None,
    max_answer_tokens: Annotated[
        int | None, typer.Option(min=1, help="The length that is too long: train.max_answer_tokens; its default.")
    ] = None,
    skip_broken: Annotated[
        bool, typer.Option("--skip-broken", help="Leave out rows that cannot be taken, in place of ending there.")
    ] = False,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", metavar="DIR", help="Public benchmark data (also UNSAY_DATA_DIR).")
    ] = None,
) -> None:
    """Make training examples of your own data, whatever its shape; no text is printed."""
    from unsay.data.row_formats import Fields
    from unsay.files import write_rows
    from unsay.run import make_examples
    from unsay.run.suites import overlap_summary

    _check(out, drop_overlaps, suites, data_dir, model or answer_with, max_answer_tokens)
    chosen = make_examples.Making(
        role=_role(role),
        fields=Fields(prompt_field, response_field),
        refusals=refusals,
        refuse_too=with_refusals,
        skip_broken=skip_broken,
    )
    with display(console) as progress:
        made = make_examples.make(path, chosen, None if answer_with is None else _answering(answer_with, out, progress))
    names = [name.strip() for name in suites.split(",") if name.strip()]
    rows, found = make_examples.drop_overlaps(made.examples, names) if drop_overlaps else (made.examples, [])
    name, limit = _tokens(model, answer_with, max_answer_tokens)
    cut = None if name is None or not rows else make_examples.count_cut(rows, name, limit)
    if rows:
        write_rows(out, make_examples.relative_to(out.absolute().parent, rows))
    console.print(_table(rows, cut, limit))
    for line in _lines(made):
        _say(line)
    if found:
        _say(f"Dropped, for a suite asks them: {len({row.id for row in found}):,} ({overlap_summary(found)})")
    if not rows:
        raise UserError(f"{path}: all of its {len(made.examples):,} examples are asked in suites; nothing was written")
    _say(f"Wrote {out}. Point data.examples to it.")


def _check(
    out: Path,
    drop_overlaps: bool,
    suites: str,
    data_dir: Path | None,
    tokenizer: str | Path | None,
    max_answer_tokens: int | None,
) -> None:
    """Whether the options go together and nothing is written over."""
    if out.exists() or out.is_symlink():
        raise UserError(f"{out}: exists already; choose another name or remove it first")
    if suites and not drop_overlaps:
        raise UserError("--suites: without --drop-overlaps no suite is looked at: add it")
    if max_answer_tokens is not None and tokenizer is None:
        raise UserError("--max-answer-tokens: without --model nothing counts tokens: add it")
    if data_dir is not None:
        if not data_dir.is_dir():
            raise UserError(f"--data-dir: {data_dir}: no such folder")
        os.environ["UNSAY_DATA_DIR"] = str(data_dir.resolve())


def _role(name: str | None) -> "Role | None":
    from unsay.records import Role

    if name is not None and name not in list(Role):
        raise UserError(f"--role: unknown '{name}'; known are {', '.join(Role)}")
    return None if name is None else Role(name)


def _answering(config: Path, out: Path, progress: "Progress") -> "Answering":
    """Asks the model of a run's settings; its answers stay beside the file, so that the same command goes on there.

    Raises:
        UserError: the settings cannot be read, or a server would answer by them.
    """
    from unsay.config import read_config
    from unsay.processes import refuse_several
    from unsay.records import Role
    from unsay.run.directory import Run
    from unsay.run.examples import normal_answers, own_answers

    refuse_several("examples")
    settings = read_config(config)
    if settings.evaluation.responder is not None:
        raise UserError(
            f"{config}: evaluation.responder: examples hold what the model that is trained says itself, and no server "
            "is asked for it; leave it out, and name that checkpoint as `model`"
        )

    @cache  # one run for both roles: the model is loaded once, and only if there is something to ask
    def run() -> Run:
        return Run.open(out.with_name(f"{out.stem}-answers"), settings, progress)

    def ask(role: Role, rows: "list[SourceRow]") -> "list[OwnAnswer]":
        return own_answers(run(), rows) if role is Role.FORGET else normal_answers(run(), rows)

    return ask


def _tokens(model: str | None, config: Path | None, limit: int | None) -> tuple[str | None, int]:
    """Whose tokenizer counts, and up to what length; the options go before the run's settings."""
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
        cells = [
            len(mine),
            len({row.request or row.prompt for row in mine}),
            sum(row.image is not None for row in mine),
        ]
        cells += [] if cut is None else [cut.get(role, 0)]
        table.add_row(Text(role), *(f"{cell:,}" for cell in cells))
    return table


def _lines(made: "Made") -> list[str]:
    """What was left out, in counts and line numbers."""
    from unsay.run.make_examples import broken_words

    lines = []
    for role, asked in made.asked.items():
        kept = "harmful" if role == "forget" else "an answer"
        lines.append(f"Asked for {role} answers: {asked:,} requests, {asked - made.unanswered[role]:,} of them {kept}")
    if made.repeated:
        lines.append(f"Dropped as exact duplicates: {made.repeated:,}")
    if made.broken:
        lines.append(f"Left out as broken: {broken_words(made.broken)}")
    return lines


def _say(line: str) -> None:
    console.print(line, markup=False, highlight=False, soft_wrap=True)
