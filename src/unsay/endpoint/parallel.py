"""Many requests at once, and the pace at which they may be sent."""

import queue
import threading
import time
from collections.abc import Callable, Generator, Sequence
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

GRACE = 2.0
"""Seconds that work under way gets to end when the rest is dropped: what is answered by then is paid for anyway."""


class Pace:
    """Lets callers through at most so often; those that come too early wait their turn."""

    def __init__(self, per_minute: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._gap = 60 / per_minute if per_minute else 0.0
        self._clock = clock
        self._lock = threading.Lock()
        self._next = 0.0
        self._stopped = threading.Event()

    def wait(self) -> bool:
        """Wait for this caller's turn; False if all were sent away before it came."""
        return not self._stopped.wait(self.reserve())

    def reserve(self) -> float:
        """Take the next free place; returns the seconds until then."""
        if not self._gap:
            return 0.0
        with self._lock:
            now = self._clock()
            place = max(now, self._next)
            self._next = place + self._gap
        return place - now

    def stop(self) -> None:
        """Send everyone away, those who wait and those who will come, until `go_on`; their places are free again."""
        self._stopped.set()
        with self._lock:
            self._next = min(self._next, self._clock() + self._gap)

    def go_on(self) -> None:
        """Let callers through again; those who were sent away stay away."""
        self._stopped.clear()


def _nothing() -> None:
    pass


def in_parallel(
    work: Callable[[Item], Result], items: Sequence[Item], workers: int, stop: Callable[[], None] = _nothing
) -> Generator[tuple[int, Result | Exception], None, None]:
    """Do `work` on every item; yields (index of the item, result or what it raised) as each is done.

    If the caller stops early or is interrupted (it must close the generator then: `contextlib.closing`), work that has
    not begun is dropped, and work under way gets `GRACE` seconds. Nobody is told its result, so `work` itself must keep
    what is worth keeping. What takes longer is left behind, in threads that hold up neither the caller nor the end of
    the program. Closing connections under them would not help: a thread that waits for a socket sleeps on.

    Args:
        work: safe to call from several threads.
        items: what to work on.
        workers: at most so many at the same time.
        stop: called when the rest is dropped, to shorten what is under way.
    """
    waiting: queue.SimpleQueue[int] = queue.SimpleQueue()
    done: queue.SimpleQueue[tuple[int, Result | Exception] | BaseException] = queue.SimpleQueue()
    dropped = threading.Event()
    for index in range(len(items)):
        waiting.put(index)

    def serve() -> None:
        try:
            while not dropped.is_set():
                index = waiting.get_nowait()
                done.put((index, _tried(work, items[index])))
        except queue.Empty:
            return
        except BaseException as error:  # no row's own: the caller is to meet it, and not to wait for ever
            done.put(error)

    # Those of a ThreadPoolExecutor would be waited for when the program ends, for minutes where a server is slow.
    threads = [threading.Thread(target=serve, daemon=True) for _ in range(min(workers, len(items)))]
    try:
        for thread in threads:
            thread.start()
        for _ in items:
            found = done.get()
            if isinstance(found, BaseException):
                raise found
            yield found
    except BaseException:
        dropped.set()
        stop()
        raise
    finally:
        _wait_for(threads, GRACE)


def _tried(work: Callable[[Item], Result], item: Item) -> Result | Exception:
    try:
        return work(item)
    except Exception as error:
        return error


def _wait_for(threads: Sequence[threading.Thread], seconds: float) -> None:
    """Return when all have ended, and after so many seconds at the latest."""
    latest = time.monotonic() + seconds
    for thread in threads:
        if thread.is_alive():
            thread.join(max(0.0, latest - time.monotonic()))
