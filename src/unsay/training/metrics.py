"""`metrics.jsonl`: one row per step."""

import json
from collections.abc import Mapping
from pathlib import Path

from unsay.errors import UserError
from unsay.files import write_text


class Metrics:
    """The file of a run's meters; a torn last line of a killed run is dropped.

    Of several processes that train together one `writes`.
    """

    def __init__(self, path: Path, *, writes: bool = True) -> None:
        self.path, self._writes = path, writes

    def keep_until(self, step: int) -> None:
        """Drop rows after `step`: they belong to work that is done again, or that was given up."""
        if not self._writes:
            return
        rows = []
        for line in self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []:
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                break
            if row["step"] <= step:
                rows.append(line + "\n")
        write_text(self.path, "".join(rows))

    def add(self, row: Mapping[str, float]) -> None:
        """Append one step's meters.

        Raises:
            UserError: the disk is full or the file cannot be written.
        """
        if not self._writes:
            return
        try:
            with self.path.open("a", encoding="utf-8") as handle:
                handle.write(json.dumps(row) + "\n")
        except OSError as error:
            raise UserError(f"cannot write {self.path}: {error.strerror or error}") from error
