"""Many requests at once, and the pace at which they may be sent."""

import queue
import threading
import time
from collections.abc import Callable, Generator, Sequence
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

GRACE = 2.0
"""Seconds that running work gets to end when the rest is dropped: it is paid for anyway."""


class Pace:
    """Lets callers through at a limited rate; those that come too early wait their turn."""

    def __init__(self, per_minute: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._gap = 60 / per_minute if per_minute else 0.0
        self._clock = clock
        self._lock = threading.Lock()
        self._next = 0.0
        self._stopped = threading.Event()

    def wait(self) -> bool:
        """Wait for this caller's turn; False if `stop` is called before it comes."""
        return not self._stopped.wait(self.reserve())

    def reserve(self) -> float:
        """Take the next free place; returns the seconds until it comes."""
        if not self._gap:
            return 0.0
        with self._lock:
            now = self._clock()
            place = max(now, self._next)
            self._next = place + self._gap
        return place - now

    def stop(self) -> None:
        """Send away all callers, present and future, until `resume`; their places become free."""
        self._stopped.set()
        with self._lock:
            self._next = min(self._next, self._clock() + self._gap)

    def resume(self) -> None:
        """Let new callers through again."""
        self._stopped.clear()


def _nothing() -> None:
    pass


def in_parallel(
    work: Callable[[Item], Result], items: Sequence[Item], workers: int, stop: Callable[[], None] = _nothing
) -> Generator[tuple[int, Result | Exception], None, None]:
    """Do `work` on every item; yields (index of the item, result or what it raised) as each is done.

    If the caller stops early or is interrupted (it must then close the generator: `contextlib.closing`), work that has
    not begun is dropped, and running work gets `GRACE` seconds. Its results are not yielded, so `work` itself must save
    what is worth saving. What takes longer is left in daemon threads, which delay neither the caller nor the end of the
    program. Closing their connections would not help: a thread that waits for a socket sleeps on.

    Args:
        work: safe to call from several threads.
        items: what to work on.
        workers: the most items in work at the same time.
        stop: called when the rest is dropped, to shorten running work.
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
        except BaseException as error:  # not one item's failure: the caller must see it, and not wait for ever
            done.put(error)

    # Not a ThreadPoolExecutor: at exit Python joins its threads, which takes minutes if a server is slow.
    threads = [threading.Thread(target=serve, daemon=True) for _ in range(min(workers, len(items)))]
    try:
        for thread in threads:
            thread.start()
        for _ in items:
            outcome = done.get()
            if isinstance(outcome, BaseException):
                raise outcome
            yield outcome
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
    """Wait until all threads have ended, at most so many seconds."""
    latest = time.monotonic() + seconds
    for thread in threads:
        if thread.is_alive():
            thread.join(max(0.0, latest - time.monotonic()))
