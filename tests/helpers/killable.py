"""Processes that may be killed: forked from one server that has the library imported.

Importing takes several seconds, and what is killed here runs for less than one. Where a test sets no other, a process
has this one's environment and one thread.
"""

import multiprocessing
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from multiprocessing import forkserver
from multiprocessing.process import BaseProcess
from pathlib import Path
from unittest import mock

CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["helpers.killed_answering", "helpers.killed_battery", "helpers.killed_training", "helpers.study_of_tiny"]
)


@contextmanager
def _environment() -> Iterator[None]:
    """For the server's start: where it finds the test files, and that OpenMP has one thread."""
    path = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
    with mock.patch.dict(os.environ, {"PYTHONPATH": path, "OMP_NUM_THREADS": "1"}):
        yield


def start(errors: Path, target: Callable[..., object], *arguments: object) -> BaseProcess:
    """Call a module's function in a process of its own.

    Args:
        errors: file for the traceback, should it fail.
        target: what is called.
        arguments: what it is called with.
    """
    with _environment():
        forkserver.ensure_running()
    process = CONTEXT.Process(target=_run, args=(dict(os.environ), errors, target, arguments), daemon=True)
    process.start()
    return process


def run(errors: Path, target: Callable[..., object], *arguments: object) -> int | None:
    """As `start`, to its end; returns the exit code, which is minus the signal's number where a signal ended it."""
    process = start(errors, target, *arguments)
    process.join(timeout=300)
    return process.exitcode


def _run(
    environment: dict[str, str], errors: Path, target: Callable[..., object], arguments: tuple[object, ...]
) -> None:
    import torch

    os.environ.clear()
    os.environ.update(environment, OMP_NUM_THREADS="1")
    torch.set_num_threads(1)
    try:
        target(*arguments)
    except BaseException:
        errors.write_text(traceback.format_exc())
        sys.exit(1)
