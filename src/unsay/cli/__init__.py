"""The command line: `unsay COMMAND`. Each module holds a group of commands; they parse, call the API and print."""

import os
import sys
import warnings
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from unsay import __version__
from unsay.cli import (
    data_commands,
    evaluate_commands,
    judges_commands,
    plan_commands,
    play_commands,
    robustness_command,
    run_commands,
    study_commands,
)
from unsay.cli.display import complain, console, say
from unsay.errors import UserError
from unsay.preemption import EXIT, PreemptedError, raise_on_sigterm


class _InterruptedError(Exception):
    """Ctrl-C under a name that Typer lets through: it ends on `KeyboardInterrupt` without a message."""


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


for _command in (
    run_commands.demo,
    run_commands.unlearn,
    evaluate_commands.evaluate,
    robustness_command.robustness,
    evaluate_commands.compare,
    play_commands.play,
    study_commands.study,
    study_commands.study_table,
    study_commands.runs,
    plan_commands.init,
    run_commands.export,
    plan_commands.plan,
    run_commands.report,
    evaluate_commands.suites,
    data_commands.sources,
    data_commands.examples,
    evaluate_commands.methods,
):
    app.command()(_command)
app.add_typer(judges_commands.app, name="judges")


def main() -> None:
    """Run the command line; a `UserError` becomes one line on stderr and exit code 2.

    Signals give the exit codes that a shell reports: 143 for SIGTERM, 130 for Ctrl-C.
    """
    # Progress bars and deprecation notices of libraries would break the display.
    os.environ.setdefault("TQDM_DISABLE", "1")
    warnings.filterwarnings("ignore", category=FutureWarning)
    try:
        with raise_on_sigterm():
            app()
    except UserError as error:
        complain(error.line)
        sys.exit(2)
    except PreemptedError as error:
        say(f"unsay: {error}; run the same command again to continue")
        sys.exit(EXIT)
    except (_InterruptedError, KeyboardInterrupt):
        complain("interrupted; run the same command again to continue")
        sys.exit(130)
