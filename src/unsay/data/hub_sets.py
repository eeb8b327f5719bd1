"""Data sets of the Hugging Face hub, read through `datasets`: streamed once at a pinned revision, then from the cache.

A copy of a repository's files in the folder of benchmark data goes before the hub, so that a machine without a network
reads the same rows.
"""

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unsay.assets import derived, derived_folder
from unsay.data.published import DATA_DIR_VARIABLE, Row, data_dir, json_lines
from unsay.errors import UserError
from unsay.files import content_key, write_text

VERSION = 1
"""Of what is kept in the cache."""
ROWS, PICTURES = "rows.jsonl", "pictures"
"""Where rows and pictures are kept in an entry of the cache."""


@dataclass(frozen=True)
class HubSet:
    """Some files of a data set on the hub, and what is taken from their rows.

    Attributes:
        path: the folder of benchmark data that may hold a copy of the repository.
        dataset: `owner/name`.
        files: a pattern of paths in the repository.
        revision: a commit; a branch where no commit is known.
        columns: the columns that are kept; a row without one is of a new format.
        picture: the column of pictures, if there is one; it becomes a path.
        most: rows that are read from the beginning at most; None reads all.
        floating: why nothing fixes its content, where no commit does.
    """

    path: str
    dataset: str
    files: str
    revision: str
    columns: tuple[str, ...]
    picture: str | None = None
    most: int | None = None
    floating: str = ""

    @property
    def here(self) -> bool:
        """Whether it can be read now, without a network."""
        return self._copy() is not None or derived_folder(self._name, self._key).is_dir()

    @property
    def fetchable(self) -> bool:
        """Always: it is on the hub."""
        return True

    @property
    def missing(self) -> str:
        """What to do where it is not here."""
        return f"{self.path}/: {self.address} (pip install 'unsay[data]')"

    @property
    def address(self) -> str:
        """Which files of which data set."""
        return f"`{self.files}` of huggingface.co/datasets/{self.dataset}"

    @property
    def pin(self) -> str:
        """What fixes its content."""
        return "commit" if len(self.revision) == 40 else f"not pinned: {self.floating}"

    @property
    def fingerprint(self) -> str:
        """Content key: of the copy's names, sizes and times, else of the address."""
        return self._key

    def rows(self) -> Iterator[Row]:
        """The rows, in the order of the files, with `columns` alone.

        Raises:
            UserError: no network, a gated set, a revision that is gone, missing files or columns, no `datasets`.
        """
        folder = derived(self._name, self._key, self._bring)
        for number, row in enumerate(json_lines(folder / ROWS), start=1):
            if self.picture is not None:
                row[self.picture] = str(folder / PICTURES / row.text(self.picture))
            row.where = f"{self.dataset}, {self.files}: row {number}"
            yield row

    def _bring(self, into: Path) -> None:
        try:
            import datasets
        except ImportError:
            raise UserError(f"{self.dataset}: sets of the hub need datasets: pip install 'unsay[data]'") from None
        lines = []
        datasets.utils.logging.set_verbosity(logging.CRITICAL)  # what goes wrong is said below, in one line
        try:
            for number, row in enumerate(self._stream(datasets)):
                if number == self.most:
                    break
                lines.append(json.dumps(self._kept(row, number, into), ensure_ascii=False))
        except UserError:
            raise
        except Exception as error:  # the libraries beneath raise nearly anything
            raise self._explained(error) from error
        write_text(into / ROWS, "".join(f"{line}\n" for line in lines))

    def _stream(self, datasets: Any) -> Any:
        copy = self._copy()
        stream = datasets.load_dataset(
            self.dataset if copy is None else str(copy),
            data_files={"rows": self.files},
            split="rows",
            streaming=True,
            revision=None if copy is not None else self.revision,
        )
        if self.picture is not None and self.picture in (stream.features or ()):
            return stream.cast_column(self.picture, datasets.Image(decode=False))
        return stream

    def _kept(self, row: dict[str, Any], number: int, into: Path) -> dict[str, Any]:
        """The wanted columns; the bytes of a picture go to a file, which is named in their place."""
        wanted = self.columns if self.picture is None else (*self.columns, self.picture)
        if missing := [column for column in wanted if column not in row]:
            found = ", ".join(sorted(row))
            raise UserError(
                f"{self.dataset}, {self.files}: no column '{missing[0]}', it has {found}: its format has changed; use "
                f"the pinned revision, or convert its rows with `unsay examples` and name them in data.examples"
            )
        kept = {column: row[column] for column in self.columns}
        if self.picture is not None:
            cell = row[self.picture]
            if not isinstance(cell, dict) or not isinstance(cell.get("bytes"), bytes):
                raise UserError(f"{self.dataset}, {self.files}: row {number + 1}: {self.picture}: no picture")
            name = f"{number:06d}{Path(str(cell.get('path') or '')).suffix or '.png'}"
            (into / PICTURES).mkdir(exist_ok=True)
            (into / PICTURES / name).write_bytes(cell["bytes"])
            kept[self.picture] = name
        return kept

    def _explained(self, error: Exception) -> UserError:
        """One line for whatever `datasets` and what lies beneath it raised."""
        text, kind = str(error), type(error).__name__
        where = f"huggingface.co/datasets/{self.dataset}"
        by_hand = f"or put {self.files} into {self.path}/ of the folder that {DATA_DIR_VARIABLE} names"
        if self._copy() is not None:
            return UserError(
                f"{self._copy()}: {self.files} cannot be read ({kind}): replace it by a fresh copy of {where}"
            )
        if "gated" in text.lower():
            return UserError(f"{where}: is gated: accept its terms there and set HF_TOKEN, {by_hand}")
        if "revision" in text.lower():
            return UserError(f"{where}: revision {self.revision} is gone: update unsay, {by_hand}")
        if isinstance(error, ConnectionError) or "offline" in text.lower() or "onnect" in kind or "Timeout" in kind:
            return UserError(f"{where}: cannot be reached: check the network, {by_hand}")
        if isinstance(error, FileNotFoundError):
            return UserError(f"{where}: no {self.files} at revision {self.revision}, or no access to it: {by_hand[3:]}")
        return UserError(f"{where}: {self.files} cannot be read ({kind}): run it again, {by_hand}")

    def _copy(self) -> Path | None:
        """The folder of benchmark data that holds the files, if there is one."""
        folder = data_dir()
        found = folder is not None and any((folder / self.path).glob(self.files))
        return folder / self.path if folder is not None and found else None

    @property
    def _name(self) -> str:
        return f"hub-{self.path}"

    @property
    def _key(self) -> str:
        copy = self._copy()
        stats = [] if copy is None else [(path.name, path.stat()) for path in sorted(copy.glob(self.files))]
        content = [[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats] or self.revision
        return content_key(VERSION, self.dataset, self.files, content, self.columns, self.picture, self.most)
