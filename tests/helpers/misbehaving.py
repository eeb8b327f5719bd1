"""A real chat server on this machine that answers as a test tells it to."""

import json
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from helpers.listening import listening


@dataclass
class Reply:
    """What the server sends: a status, a body, after a while."""

    body: bytes | str | dict[str, Any] = ""
    status: int = 200
    delay: float = 0.0
    content_type: str = "application/json"
    cut: int = 0
    """So many bytes of the promised body are not sent."""


def says(text: str, finish: str = "stop", tokens: tuple[int, int] = (11, 7)) -> Reply:
    """A proper answer."""
    message = {"role": "assistant", "content": text}
    usage = {"prompt_tokens": tokens[0], "completion_tokens": tokens[1], "total_tokens": sum(tokens)}
    choice = {"index": 0, "message": message, "finish_reason": finish}
    return Reply({"id": "1", "object": "chat.completion", "created": 0, "model": "m", "choices": [choice],
                  "usage": usage})  # fmt: skip


@dataclass
class Server:
    """A running server, and what it was asked."""

    url: str
    asked: list[dict[str, Any]] = field(default_factory=list)
    busy: int = 0
    most_busy: int = 0


@contextmanager
def serving(
    answer: Callable[[dict[str, Any], int], Reply], models: Sequence[dict[str, Any]] | str | None = None
) -> Iterator[Server]:
    """Serve on a free port; `answer(request body, how many came before)` decides.

    `models` is the list of models, or a page for people in its place.
    """
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            with lock:
                number = len(server.asked)
                server.asked.append(body)
                server.busy += 1
                server.most_busy = max(server.most_busy, server.busy)
            try:
                reply = answer(body, number)
                time.sleep(reply.delay)
                data = json.dumps(reply.body) if isinstance(reply.body, dict) else reply.body
                data = data.encode() if isinstance(data, str) else data
                self.send_response(reply.status)
                self.send_header("Content-Type", reply.content_type)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                self.wfile.write(data[: len(data) - reply.cut])
            except (BrokenPipeError, ConnectionResetError):
                pass
            finally:
                with lock:
                    server.busy -= 1
            if reply.cut:
                self.close_connection = True

        def do_GET(self) -> None:
            page = models if isinstance(models, str) else None
            data = (page or json.dumps({"object": "list", "data": models})).encode()
            self.send_response(404 if models is None else 200)
            self.send_header("Content-Type", "text/html" if page else "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_: Any) -> None:
            pass

    with listening(Handler) as url:
        server = Server(f"{url}/v1")
        yield server
