"""A playground in this process, and a headless Chromium that looks at it."""

import shutil
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from unsay.judges import build_judge
from unsay.playground import Session
from unsay.playground.kept_rows import KeptRows
from unsay.playground.speakers import Speaker, Spoken
from unsay.records import Phase, Prompt

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    """A headless Chromium, driven through Playwright; tests are skipped without them."""
    playwright = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("no Chromium here")
    with playwright.sync_playwright() as driver:
        opened = driver.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield opened
        opened.close()


class Scripted:
    """A speaker that says what a test tells it, word by word, when it is allowed to."""

    gradual = True

    def __init__(self, answers: dict[Phase, str], seconds_a_word: float = 0.0) -> None:
        self.answers = answers
        self.seconds_a_word = seconds_a_word
        self.asked: list[tuple[Phase, str, bool, float]] = []
        self.go_on = threading.Event()
        self.go_on.set()
        self.left = 0

    def say(self, phase: Phase, prompt: Prompt, strength: float = 1.0) -> Iterator[Spoken]:
        pictured = prompt.image is not None and Path(prompt.image).is_file()
        self.asked.append((phase, prompt.request, pictured, strength))
        words = self.answers[phase].split(" ")
        try:
            for count in range(1, len(words) + 1):
                yield Spoken(" ".join(words[:count]), count)
                time.sleep(self.seconds_a_word)
                self.go_on.wait(10)
            yield Spoken(" ".join(words), len(words), "stop")
        except GeneratorExit:
            self.left += 1
            raise


def session_of(speaker: Speaker, tmp_path: Path, examples: list[Prompt] | None = None) -> Session:
    """A session of a speaker, with the judge `rules`."""
    return Session(
        title="a test",
        names={Phase.BEFORE: "Original model", Phase.AFTER: "Unlearned model"},
        load_speaker=lambda: speaker,
        load_judge=lambda: build_judge("rules"),
        examples=examples or [],
        kept=KeptRows(tmp_path / "kept.jsonl"),
        max_tokens=96,
    )


@contextmanager
def served(session: Session, password: str | None = None) -> Iterator[str]:
    """Serve a session on a free port while the block lasts; yields the page's address."""
    import uvicorn

    from unsay.playground.app import build_app

    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        app = build_app(session, frozenset({f"127.0.0.1:{port}"}), password)
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", lifespan="off", timeout_graceful_shutdown=1))
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        while not server.started:
            time.sleep(0.01)
        session.start()
        try:
            yield f"http://127.0.0.1:{port}"
        finally:
            server.should_exit = True
            thread.join(timeout=10)
