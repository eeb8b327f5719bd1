"""SIGTERM, which a scheduler sends some seconds before it takes the machine away.

Training saves a checkpoint first; any other work stops at once, because every stage resumes from its files.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOPPED = "stopped by SIGTERM"
EXIT = 128 + signal.SIGTERM
"""Exit status of a stopped command, 143 as shells report it: neither `&&` nor a scheduler may take it for done."""

_deferred, _requested = False, False


class PreemptedError(BaseException):
    """The process was asked to end. Like `KeyboardInterrupt`, it is not to be handled on the way up."""


def end_requested() -> bool:
    """Whether SIGTERM came while `defer_sigterm` holds."""
    return _requested


@contextmanager
def raise_on_sigterm() -> Iterator[None]:
    """Within this context SIGTERM raises `PreemptedError`, unless `defer_sigterm` holds. Main thread only."""
    before = signal.signal(signal.SIGTERM, _receive)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def defer_sigterm() -> Iterator[None]:
    """Within this context SIGTERM only sets `end_requested`: the work saves itself and raises `PreemptedError`.

    The end of the context raises it where the work finished without checking.
    """
    global _deferred, _requested
    _deferred, _requested = True, False
    try:
        yield
        if _requested:
            raise PreemptedError(STOPPED)
    finally:
        _deferred, _requested = False, False


def _receive(_signal: int, _frame: FrameType | None) -> None:
    global _requested
    if not _deferred:
        raise PreemptedError(STOPPED)
    _requested = True
