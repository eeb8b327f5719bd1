"""The command `play`: both models on a local page."""

from pathlib import Path
from typing import Annotated

import typer

from unsay.cli.display import say
from unsay.errors import UserError


def play(
    run_dir: Annotated[
        Path | None, typer.Argument(metavar="RUN", help="A run directory with an adapter, as `unsay demo` leaves it.")
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="With --adapter: `pocket`, a checkpoint folder, or a model id. Default: that of the adapter's run, or "
            "else `pocket`.",
        ),
    ] = None,
    adapter: Annotated[
        Path | None, typer.Option(metavar="DIR", help="In place of a run: a trained adapter in PEFT format.")
    ] = None,
    before: Annotated[
        str | None,
        typer.Option(metavar="URL", help="In place of a run: the server of the original model, as URL or URL#MODEL."),
    ] = None,
    after: Annotated[
        str | None, typer.Option(metavar="URL", help="The server of the unlearned model; may be the same one.")
    ] = None,
    max_tokens: Annotated[int, typer.Option(metavar="N", min=1, help="Longest answer, in tokens.")] = 96,
    device: Annotated[str | None, typer.Option(metavar="NAME", help="Torch device. Default: the run's.")] = None,
    keep: Annotated[
        Path, typer.Option(metavar="FILE", help="Suite file that takes the requests you keep; `--suite-file` reads it.")
    ] = Path("kept.jsonl"),
    host: Annotated[
        str,
        typer.Option(
            metavar="ADDRESS",
            help="Interface. Others can reach any but the default one, so it then asks for a password, here or from "
            "UNSAY_PLAY_PASSWORD.",
        ),
    ] = "127.0.0.1",
    port: Annotated[
        int | None, typer.Option(metavar="N", min=0, max=65535, help="Default: the first free one from 7860 on.")
    ] = None,
    open_page: Annotated[bool, typer.Option("--open", help="Open the page in your browser.")] = False,
) -> None:
    """Ask the original and the unlearned model side by side, on a page that only this machine can open."""
    from unsay.playground.serve import check_installed

    check_installed()
    servers = (before, after) if before is not None and after is not None else None
    if (before is None) != (after is None):
        raise UserError("--before and --after belong together: name both servers")
    if sum(given is not None for given in (run_dir, adapter, servers)) != 1:
        raise UserError("name one thing to play with: a run directory, --adapter DIR, or --before URL and --after URL")
    if model is not None and adapter is None:
        raise UserError("--model: goes with --adapter alone; a run and a server name their own")
    if device is not None and servers is not None:
        raise UserError("--device: the servers have their own")

    from unsay.playground.access import is_local
    from unsay.playground.serve import serve

    password = None if is_local(host) else _password()
    from unsay.config import model_of
    from unsay.playground import PlaySettings, of_model, of_run, of_servers

    settings = PlaySettings(max_tokens=max_tokens, device=device, keep=keep)
    if run_dir is not None:
        session = of_run(run_dir, settings)
    elif adapter is not None:
        session = of_model(model or model_of(adapter), adapter, settings)
    else:
        assert servers is not None  # one of the three was given
        session = of_servers(*servers, settings)

    def ready(url: str) -> None:
        say(f"Playground: {url}  (Ctrl-C ends it)")
        if password is not None:
            say("It is not encrypted: where others can read the network, put it behind a proxy with TLS.")
        if open_page:
            import webbrowser

            webbrowser.open(url)

    try:
        serve(session, host=host, port=port, password=password, ready=ready)
    except KeyboardInterrupt:
        say("\nPlayground ended.")


def _password() -> str:
    from unsay.playground.access import checked, password_from_environment

    found = password_from_environment()
    return found or checked(typer.prompt("A password for this page", hide_input=True, confirmation_prompt=True))
