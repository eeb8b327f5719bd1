"""A run directory is one process's at a time, and shows no results of settings that it no longer has."""

from pathlib import Path

from filelock import FileLock, Timeout

from unsay.config import RunConfig, read_config
from unsay.errors import UserError

RESULTS = ("scores.json", "report.html")
"""What a run comes to, under any settings."""
LEARNED = "stages/unlearn.json"
"""What says that the adapter is that of the settings."""


def hold(folder: Path) -> FileLock | None:
    """Keep other processes out of a run directory for as long as the lock is referred to.

    Returns:
        None where the disk knows no locks.

    Raises:
        UserError: another process has it, or the folder cannot be written.
    """
    # One lock for all runs of this process: it may open the same directory again.
    lock = FileLock(folder / ".lock", is_singleton=True)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f"{folder}: another unsay is at work there; wait for it, or choose another --out") from None
    except NotImplementedError:
        return None
    except OSError as error:
        raise UserError(f"cannot write {folder}: {error.strerror or error}") from None
    return lock


def clear_outdated(folder: Path, config: RunConfig) -> None:
    """Take away what an earlier run with other settings came to in a directory; stages decide for themselves.

    Answers, checkpoints and the adapter stay: whoever goes back to the earlier settings finds them. But the adapter is
    no longer said to be this run's if more than the evaluation has changed.
    """
    try:
        earlier = read_config(folder / "config.yaml")
    except UserError:  # there is none, or one of another version
        earlier = None
    if earlier == config:
        return
    for name in RESULTS:
        (folder / name).unlink(missing_ok=True)
    if earlier is None or _but_evaluation(earlier) != _but_evaluation(config):
        (folder / LEARNED).unlink(missing_ok=True)


def _but_evaluation(config: RunConfig) -> RunConfig:
    return config.model_copy(update={"evaluation": None})
