"""The command `unsay compare`."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from unsay.cli.display import end

console = Console()

SIDE = "A directory of `unsay evaluate` or `unsay unlearn`; DIR:before or DIR:after for a phase of it, else its last."


def compare(
    before: Annotated[str, typer.Argument(metavar="BEFORE", help=SIDE)],
    after: Annotated[str, typer.Argument(metavar="AFTER", help="The same, of what it is compared with.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Directory of the comparison.")],
    common: Annotated[
        bool, typer.Option("--common", help="Compare the suites that both were asked alike, and leave the others out.")
    ] = False,
) -> None:
    """Pair two evaluations, such as two adapters or two servers: differences, tests and transfer in one report."""
    from unsay import api

    end(console, api.compare(before, after, out, common=common), out)
