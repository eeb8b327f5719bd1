"""Many requests at once, and the pace at which they may be sent."""

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Pace:
    """Lets callers through at most so often; those that come too early wait their turn."""

    def __init__(self, per_minute: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._gap = 60 / per_minute if per_minute else 0.0
        self._clock = clock
        self._lock = threading.Lock()
        self._next = 0.0

    def wait(self) -> None:
        """Return when it is this caller's turn."""
        if delay := self.reserve():
            time.sleep(delay)

    def reserve(self) -> float:
        """Take the next free place; returns the seconds until then."""
        if not self._gap:
            return 0.0
        with self._lock:
            now = self._clock()
            place = max(now, self._next)
            self._next = place + self._gap
        return place - now


def in_parallel(
    work: Callable[[Item], Result], items: Sequence[Item], workers: int
) -> Iterator[tuple[int, Result | Exception]]:
    """Do `work` on every item; yields (index of the item, result or what it raised) as each is done.

    If the caller stops early or is interrupted, work that has not begun is dropped.

    Args:
        work: safe to call from several threads.
        items: what to work on.
        workers: at most so many at the same time.
    """
    pool = ThreadPoolExecutor(max_workers=max(1, min(workers, len(items))))
    try:
        waiting = {pool.submit(work, item): index for index, item in enumerate(items)}
        for future in as_completed(waiting):
            error = future.exception()
            if error is not None and not isinstance(error, Exception):
                raise error
            yield waiting[future], future.result() if error is None else error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
