"""A run directory is one process's at a time, and shows no results of settings that it no longer has."""

from errno import EACCES, ENOLCK, ENOSYS, EOPNOTSUPP, EPERM, EROFS
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from unsay.config import RunConfig, config_text, parse_config, write_config
from unsay.errors import UserError
from unsay.files import read_text, write_json

RESULTS = ("scores.json", "report.html")
"""What a run comes to, under any settings."""
LEARNED = "stages/unlearn.json"
"""What says that the adapter is that of the settings."""
PATIENCE = 10.0
"""Seconds that whoever only reads waits: another that reads, too, is gone by then, and one that writes is not."""
NO_LOCKS = frozenset({ENOSYS, ENOLCK, EOPNOTSUPP})
"""What a network disk says that knows no locks."""
CLOSED = frozenset({EACCES, EPERM, EROFS})
"""What a directory says that cannot be written."""


def hold(folder: Path, *, reading: bool = False) -> FileLock | None:
    """Keep other processes out of a directory for as long as the lock is referred to; a killed one holds nothing.

    Args:
        folder: the directory; made if it is not there, unless it is only read.
        reading: nothing is written there, so that it may be a directory that cannot be. Another process that has it is
            waited for a little, for it may only read, too; release the lock as soon as all is read.

    Returns:
        None where the disk knows no locks, or where it is only read and cannot be written. A file that stands for a
        lock would outlive a killed run.

    Raises:
        UserError: another process has it, or the folder cannot be written.
    """
    # One lock for all runs of this process: it may open the same directory again.
    lock = FileLock(folder / ".lock", is_singleton=True, fallback_to_soft=False)
    try:
        if not reading:
            folder.mkdir(parents=True, exist_ok=True)
        lock.acquire(timeout=PATIENCE if reading else 0)
    except Timeout:
        help = "wait for it" if reading else "wait for it, or choose another --out"
        raise UserError(f"{folder}: another unsay is at work there; {help}") from None
    except OSError as error:
        if error.errno in (NO_LOCKS | CLOSED if reading else NO_LOCKS):
            return None
        raise UserError(f"cannot write {folder}: {error.strerror or error}") from None
    return lock


def begin(folder: Path, config: RunConfig, made_with: dict[str, Any]) -> None:
    """Take away what earlier work came to, and say what the directory's work is made with from now on.

    Called before anything in it is done anew: a run that is only read, or refused, keeps what it has, and one that is
    killed does not look finished. Answers, checkpoints and the adapter stay, for whoever goes back to the earlier
    settings; but the adapter is no longer said to be that of the settings if these would train another.
    """
    for name in RESULTS:
        (folder / name).unlink(missing_ok=True)
    if (earlier := written(folder)) is None or _taught(earlier) != _taught(config):
        (folder / LEARNED).unlink(missing_ok=True)
    write_config(folder / "config.yaml", config)
    write_json(folder / "environment.json", made_with)


def unchanged(folder: Path, config: RunConfig) -> bool:
    """Whether a directory has these settings already."""
    try:
        return read_text(folder / "config.yaml") == config_text(config)
    except UserError:
        return False


def written(folder: Path) -> RunConfig | None:
    """The settings that a directory has, paths as they stand there; None where there are none that can be read."""
    path = folder / "config.yaml"
    try:
        return parse_config(read_text(path), str(path))
    except UserError:
        return None


def _taught(config: RunConfig) -> object:
    """The settings that decide what is learned."""
    return (
        config.model,
        config.model_settings,
        config.method,
        config.method_settings,
        config.data,
        config.seed,
        config.train.decisive(),
    )
