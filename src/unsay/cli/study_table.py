"""The command `unsay study-table`."""

from pathlib import Path
from typing import Annotated

import typer


def study_table(
    study: Annotated[Path, typer.Argument(metavar="DIR", help="A study's directory, or its study.json.")],
    form: Annotated[
        str,
        typer.Option("--format", metavar="NAME", help="`latex` (booktabs), `csv` (one number a line) or `markdown`."),
    ] = "markdown",
    budget: Annotated[
        str | None, typer.Option(metavar="RULE", help="`steps`, `tokens` or `seconds`; all that the study has.")
    ] = None,
) -> None:
    """Print a finished study's rankings as tables for a paper, a page, or a statistics program."""
    from unsay.studies.schema import read_result, result_file
    from unsay.studies.tables import table

    # Not the console, which would fold long lines: a file or another program reads this.
    typer.echo(table(read_result(result_file(study)), form, budget), nl=False)
