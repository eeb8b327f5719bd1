"""`unsay play`: the original and the unlearned model side by side, on a local page.

- `speakers`: who answers, token by token: one model in memory with its adapter scaled, or two servers.
- `request`: what the page asks, as a prompt; `example_buttons`: ready requests; `kept_rows`: those worth keeping.
- `session`: loads the model and the judge in the background, streams answers, judges them.
- `app`: the page and its routes; `access`: who may open it; `serve`: the server.

Nothing that is asked or answered is written, except a row that a person keeps. Needs the extra `unsay[web]`.
"""

from unsay.playground.session import PlaySettings, Session, of_model, of_run, of_servers

__all__ = ["PlaySettings", "Session", "of_model", "of_run", "of_servers"]
