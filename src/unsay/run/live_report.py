"""The live report of a run: follows its stages, and writes the page in a thread of its own while it lives."""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import Event, Lock, Thread

from unsay.errors import UserError
from unsay.preemption import PreemptedError
from unsay.reports.live import EVERY, STATE_FILE, LiveStage, LiveState, write_live
from unsay.stages import Progress

Ahead = Sequence[tuple[str, str | None]]
"""Beginnings of the titles of stages that follow, in order, and of a stage that takes about as long."""

TRAINING = "Unlearn"
"""How the title of the training begins."""


class LiveReport:
    """A `Progress` that hands on to another, and keeps `report.html` and `progress.json` of a run up to date.

    Nothing is written before `begin`, so that a run whose stages are all reused keeps its report, nor outside
    `following`, which sees how the run ends.
    """

    def __init__(self, progress: Progress, run_dir: Path, about: dict[str, str]) -> None:
        self.ahead: Ahead = ()
        self._progress, self._run_dir = progress, run_dir
        now = time.time()
        self._state = LiveState(state="running", began=now, written=now, about=about)
        self._first: tuple[float, int] | None = None  # when, and how much was done, at the stage's first update
        self._lock = Lock()
        self._due = self._followed = False
        self._ended = Event()
        self._thread: Thread | None = None

    def start(self, title: str, total: int | None) -> None:
        """A stage begins."""
        stage = LiveStage(title=title, began=time.time())
        self._first = None
        trained = self._state.trained or title.startswith(TRAINING)
        self._set(stages=(*self._state.stages, stage), done=None, total=total, note="", remaining=None, trained=trained)
        self._progress.start(title, total)

    def update(self, done: int, total: int, note: str = "") -> None:
        """So much of it is done."""
        now = time.monotonic()
        if self._first is None:
            self._first = now, done  # what a killed run had done already says nothing of the pace
        began, before = self._first
        pace = (now - began) / (done - before) if done > before else None
        self._set(done=done, total=total, note=note, remaining=None if pace is None else pace * max(0, total - done))
        self._progress.update(done, total, note)

    def finish(self, note: str) -> None:
        """It is done."""
        if (stage := self._state.now) is not None:
            ended = stage.model_copy(update={"seconds": max(0.0, time.time() - stage.began), "note": note})
            stages = (*self._state.stages[:-1], ended)
            self._set(stages=stages, done=None, total=None, note="", remaining=None)
        self._progress.finish(note)

    def begin(self) -> None:
        """The run does something that is not done yet: write the page until the report is written or the run fails."""
        self._due = True
        if self._followed and self._thread is None and not self._ended.is_set():
            self._write()
            self._thread = Thread(target=self._keep_writing, daemon=True)
            self._thread.start()

    def close(self) -> None:
        """The run has its scores: write nothing more, and leave `report.html` to the report."""
        self._end()
        (self._run_dir / STATE_FILE).unlink(missing_ok=True)

    @contextmanager
    def following(self, ahead: Ahead) -> Iterator[None]:
        """If the block fails, the page says why, and reads itself no more.

        `ahead` names the stages of the block.
        """
        self.ahead, self._followed = ahead, True
        if self._due:
            self.begin()
        try:
            yield
        except BaseException as error:
            begun = self._thread is not None
            self._end()
            if begun:
                stopped = isinstance(error, (KeyboardInterrupt, PreemptedError, GeneratorExit))
                self._set(state="interrupted" if stopped else "failed", problem="" if stopped else _reason(error))
                self._write()
            raise
        self._end()

    def _set(self, **values: object) -> None:
        with self._lock:
            self._state = self._state.model_copy(update=values)

    def _end(self) -> None:
        self._ended.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _keep_writing(self) -> None:
        while not self._ended.wait(EVERY):
            self._write()

    def _write(self) -> None:
        state = self._state
        current = state.model_copy(update={"written": time.time(), "ahead": self._upcoming(state)})
        with suppress(UserError, OSError):  # a page is worth no run
            write_live(self._run_dir, current)

    def _upcoming(self, state: LiveState) -> tuple[tuple[str, float | None], ...]:
        """The stages that have not begun, each with the time of a like one."""
        begun = [stage.title for stage in state.stages]
        took = {stage.title: stage.seconds for stage in state.stages}
        rest = [(title, like) for title, like in self.ahead if not any(name.startswith(title) for name in begun)]
        return tuple((title, took.get(like) if like is not None else None) for title, like in rest)


def _reason(error: BaseException) -> str:
    """One line that quotes no prompt: a `UserError`'s own words, of others the kind."""
    return error.line if isinstance(error, UserError) else f"an error of the program: {type(error).__name__}"
