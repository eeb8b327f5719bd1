"""Options that several commands share."""

import os
from pathlib import Path
from typing import Annotated

import typer

from unsay.errors import UserError

SUITE_FILE_ROW = 'JSONL: {"id", "prompt", "image": path or null, "kind": "attack" or "benign"}.'
"""Help text: a row of the user's own prompts."""


def refuse_existing(path: Path) -> None:
    """Raise a `UserError` if a file or link of this name exists."""
    if path.exists() or path.is_symlink():
        raise UserError(f"{path}: exists already; choose another name or remove it first")


def split_names(names: str) -> tuple[str, ...]:
    """Comma-separated names."""
    return tuple(name.strip() for name in names.split(",") if name.strip())


def _use_data_dir(folder: Path | None) -> Path | None:
    """Set UNSAY_DATA_DIR, where the loaders look, so that no command has to hand the folder on."""
    if folder is not None:
        if not folder.is_dir():
            raise UserError(f"--data-dir: {folder}: no such folder")
        os.environ["UNSAY_DATA_DIR"] = str(folder.resolve())
    return folder


Out = Annotated[
    Path, typer.Option(metavar="DIR", help="Run directory; finished stages in it are reused.", show_default=True)
]
DataDir = Annotated[
    Path | None,
    typer.Option(
        "--data-dir",
        metavar="DIR",
        callback=_use_data_dir,
        help="Folder of public data, for the suites and sources that need it (also UNSAY_DATA_DIR).",
    ),
]


def limit_of(text: str) -> int | None:
    """The value of --limit: a number, or None for `all`."""
    if text == "all":
        return None
    if not text.isdecimal() or int(text) < 1:
        raise UserError(f"--limit: {text!r} is neither a number from 1 nor `all`")
    return int(text)
