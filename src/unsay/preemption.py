"""SIGTERM: what a scheduler sends some seconds before it takes the machine away.

Training is told and saves what it has; anything else is left where it stands, for every stage continues from its files.
"""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

STOPPED = "stopped by SIGTERM"
EXIT = 128 + signal.SIGTERM
"""The exit status of a command that was stopped: 143, as a shell says it of a process that the signal killed.

What was stopped is not done, and neither `&&` nor a scheduler may take it for done.
"""
_waiting, _asked = False, False


class PreemptedError(BaseException):
    """The process was asked to end. Like `KeyboardInterrupt`, it is nobody's to handle on the way up."""


def asked() -> bool:
    """Whether the process was asked to end while something keeps it from ending at once."""
    return _asked


@contextmanager
def heeding() -> Iterator[None]:
    """While this holds, SIGTERM raises `PreemptedError`, or is kept for whoever is `saving_first`. Main thread only."""
    before = signal.signal(signal.SIGTERM, _asked_to_end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def saving_first() -> Iterator[None]:
    """While this holds, SIGTERM only sets what `asked` gives: the work saves itself and raises `PreemptedError`.

    So does its end, where the work was done before it could ask.
    """
    global _waiting, _asked
    _waiting, _asked = True, False
    try:
        yield
        if _asked:
            raise PreemptedError(STOPPED)
    finally:
        _waiting, _asked = False, False


def _asked_to_end(_signal: int, _frame: FrameType | None) -> None:
    global _asked
    if not _waiting:
        raise PreemptedError(STOPPED)
    _asked = True
