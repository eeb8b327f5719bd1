"""The server of the playground: one page, on this machine unless another interface is named."""

import socket
from collections.abc import Callable
from importlib.util import find_spec

from unsay.errors import UserError
from unsay.playground.session import Session

PORT = 7860
"""Where people of this field look for a demo."""
NEIGHBOURS = 20
"""Ports that are tried, one after the other, where none is named."""


def check_installed() -> None:
    """A `UserError` that names the extra, if what the page needs is not installed."""
    if missing := [name for name in ("starlette", "uvicorn") if find_spec(name) is None]:
        raise UserError(f"the playground needs {' and '.join(missing)}: pip install 'unsay[web]'")


def serve(
    session: Session,
    *,
    host: str = "127.0.0.1",
    port: int | None = None,
    password: str | None = None,
    ready: Callable[[str], None] = lambda _url: None,
) -> None:
    """Serve the page until the process is interrupted.

    Args:
        session: what is played with; it is started here.
        host: interface; one that others can reach needs a password.
        port: None takes the first free one from 7860 on.
        password: what the browser asks for, with any user name.
        ready: called with the page's address once connections are accepted.

    Raises:
        UserError: the extra is not installed, the port is taken, or there is no password for others.
    """
    check_installed()
    import uvicorn

    from unsay.playground.access import is_local
    from unsay.playground.app import build_app

    local = is_local(host)
    if not local and password is None:
        raise UserError(f"--host {host}: others can reach this page, so it needs a password")
    listener = _listen(host, port)
    port = listener.getsockname()[1]
    names = ("127.0.0.1", "localhost", "[::1]")
    app = build_app(session, frozenset(f"{name}:{port}" for name in names) if local else None, password)
    session.start()
    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=1, lifespan="off")
    shown = f"[{host}]" if ":" in host else host
    ready(f"http://{shown}:{port}")
    uvicorn.Server(config).run(sockets=[listener])


def _listen(host: str, port: int | None) -> socket.socket:
    """A socket that accepts connections; nobody has to wait for the server to start."""
    wanted = [port] if port is not None else range(PORT, PORT + NEIGHBOURS)
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    problem = OSError()
    for number in wanted:
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind((host, number))
            listener.listen(64)
        except OSError as error:
            problem = error
            listener.close()
            continue
        return listener
    where = f"--port {port}" if port is not None else f"ports {PORT} to {PORT + NEIGHBOURS - 1}"
    raise UserError(f"{where} on {host}: cannot listen there: {problem.strerror or problem}")
