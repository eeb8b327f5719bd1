"""Append-only files of rows under keys, which survive a kill in the middle of a write."""

import json
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Generic, TypeVar

from pydantic import TypeAdapter

from unsay.files import append_text

Row = TypeVar("Row")


class Journal(Generic[Row]):
    r"""Rows by key, remembered in a file; every cache of a run is one. Safe to use from several threads.

    Each line of the file is the JSON list `[key, row]`; the last row of a key counts. An addition begins with a line
    break, which ends a line that a kill has torn. Torn lines and lines of another version are skipped, so a kill
    loses only the rows being added.
    """

    def __init__(self, path: Path, row_type: type[Row]) -> None:
        """Read the rows of a journal.

        Args:
            path: the file; it need not exist yet.
            row_type: a pydantic model, or another type that pydantic can validate.
        """
        self.path = path
        self._type: TypeAdapter[Row] = TypeAdapter(row_type)
        self._lock = threading.Lock()
        self._rows: dict[str, Row] = dict(self.lines())

    def __len__(self) -> int:
        return len(self._rows)

    def get(self, key: str) -> Row | None:
        """The last row under this key."""
        return self._rows.get(key)

    def add(self, rows: Iterable[tuple[str, Row]]) -> None:
        """Append (key, row) pairs, handed to the operating system before the call returns.

        Raises:
            UserError: the disk is full or the file cannot be written.
        """
        pairs = list(rows)
        lines = [json.dumps([key, self._type.dump_python(row, mode="json")]) + "\n" for key, row in pairs]
        with self._lock:
            append_text(self.path, "\n" + "".join(lines))
            self._rows.update(pairs)

    def lines(self) -> Iterator[tuple[str, Row]]:
        """Every valid (key, row) pair of the file, oldest first, repeated keys included."""
        # Not `splitlines`: JSON allows U+2028 and its like inside strings.
        for line in _text(self.path).split("\n"):
            try:
                key, row = json.loads(line)
                yield str(key), self._type.validate_python(row)
            except (ValueError, TypeError, RecursionError):
                continue


def append_journal(path: Path, other: Path) -> None:
    """Append all lines of another journal to the one at `path`, whatever the type of their rows.

    Raises:
        UserError: the disk is full or the file cannot be written.
    """
    append_text(path, "\n" + _text(other))


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.exists() else ""
