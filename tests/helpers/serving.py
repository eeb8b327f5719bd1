"""`transformers serve`, a real OpenAI-compatible server, in a process of its own."""

import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PATIENCE = 120
"""Seconds that the server may take to start."""


@contextmanager
def transformers_serve(log: Path) -> Iterator[str]:
    """Serve on a free port, in float32 on the CPU, whatever checkpoint folder a request names; yields the API's URL."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    start = "from transformers.cli.transformers import main; main()"
    options = ["--host", "127.0.0.1", "--port", str(port), "--device", "cpu", "--dtype", "float32"]
    with log.open("wb") as output:
        server = subprocess.Popen(
            [sys.executable, "-c", start, "serve", *options], stdout=output, stderr=output,
            env={**os.environ, "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"},
        )  # fmt: skip
    try:
        began = time.monotonic()
        while not _up(port):
            said = log.read_text(errors="replace")[-2000:]
            assert server.poll() is None, f"the server ended: {said}"
            assert time.monotonic() - began < PATIENCE, f"the server does not start: {said}"
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        server.terminate()
        try:
            server.wait(timeout=10)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def _up(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/health", timeout=1) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
