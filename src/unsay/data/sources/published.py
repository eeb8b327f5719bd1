"""Published files: where they are found, and how CSV, JSON lines and parquet are read.

Files that their authors publish: read from `UNSAY_DATA_DIR`, from the cache, or fetched from their address.

Reading other people's files: CSV with comment lines, JSON lines, and the optional benchmark folder.
"""

import csv
import io
import json
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unsay.assets import Hub, Source, Url, derived, derived_folder
from unsay.errors import UserError
from unsay.files import content_key, file_key, read_json, read_text

DATA_DIR_VARIABLE = "UNSAY_DATA_DIR"


def data_dir() -> Path | None:
    """The folder of public benchmarks that `UNSAY_DATA_DIR` names, or None. It is never downloaded."""
    value = os.environ.get(DATA_DIR_VARIABLE)
    return Path(value).expanduser() if value else None


def benchmark(relative: str, origin: str) -> Path:
    """The path of a file or folder in the benchmark folder.

    Args:
        relative: where it lies under `UNSAY_DATA_DIR`.
        origin: where a person gets it, for the error.

    Raises:
        UserError: the variable is not set or the file is not there; says how to get it.
    """
    folder = data_dir()
    if folder is None:
        raise UserError(f"set {DATA_DIR_VARIABLE} to a folder that holds {relative} ({origin})")
    path = folder / relative
    if not path.exists():
        raise UserError(f"{path}: no such file or folder; it is {origin}")
    return path


def csv_rows(path: Path, columns: Sequence[str]) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield (line number, row) of a CSV file with a header; `columns` must be there in every row.

    Lines before the header that begin with `#` are skipped. Only those: a cell may well hold lines such as `#include`.

    Raises:
        UserError: names the file and the line of the first problem.
    """
    lines = read_text(path).removeprefix("\ufeff").splitlines(keepends=True)
    comments = 0
    while comments < len(lines) and lines[comments].startswith("#"):
        comments += 1
    reader = csv.DictReader(io.StringIO("".join(lines[comments:]), newline=""), strict=True)
    try:
        missing = [column for column in columns if column not in (reader.fieldnames or ())]
        if missing:
            raise UserError(f"{path}:{comments + 1}: no column {missing[0]!r}")
        for row in reader:
            line = comments + reader.line_num
            if None in row or any(row[column] is None for column in columns):
                raise UserError(f"{path}:{line}: another number of cells than the header")
            yield line, row
    except csv.Error as error:
        # line_num counts the lines that were read without an error.
        raise UserError(f"{path}:{comments + reader.line_num + 1}: not CSV: {error}") from None


def json_lines(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line number, object) of a JSONL file.

    Raises:
        UserError: names the file and the line of the first problem.
    """
    for line, text in enumerate(read_text(path).split("\n"), start=1):
        if not text.strip():
            continue
        try:
            value = json.loads(text)
        except json.JSONDecodeError as error:
            raise UserError(f"{path}:{line}: not JSON: {error.msg}") from None
        if not isinstance(value, dict):
            raise UserError(f"{path}:{line}: an object was expected")
        yield line, value


def json_list(path: Path) -> list[dict[str, Any]]:
    """The objects of a JSON file that holds a list of them.

    Raises:
        UserError: it holds something else; names the first entry that is none.
    """
    value = read_json(path)
    if not isinstance(value, list):
        raise UserError(f"{path}: a list was expected")
    for number, row in enumerate(value, start=1):
        if not isinstance(row, dict):
            raise UserError(f"{path}: entry {number}: an object was expected")
    return value


def parquet_rows(path: Path, columns: Sequence[str], where: tuple[str, int] | None = None) -> list[dict[str, Any]]:
    """The rows of a parquet file, with `columns` only; pictures come as `{"bytes", "path"}`.

    Args:
        path: the file.
        columns: those to read; all must be there.
        where: a column and the value that its rows must have; the others are not read into memory.

    Raises:
        UserError: pyarrow is not installed, the file is no parquet file, or a column is missing.
    """
    try:
        import pyarrow.parquet
    except ImportError:
        raise UserError(f"{path}: parquet files need pyarrow: pip install 'unsay[benchmarks]'") from None
    try:
        found = pyarrow.parquet.read_schema(path).names
        needed = (*columns, where[0]) if where else columns
        if missing := [column for column in needed if column not in found]:
            raise UserError(f"{path}: no column {missing[0]!r}")
        kept = None if where is None else [(where[0], "=", where[1])]
        table = pyarrow.parquet.read_table(path, columns=list(columns), filters=kept)
        rows: list[dict[str, Any]] = table.to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise UserError(f"{path}: not a parquet file that can be read ({type(error).__name__})") from None
    return rows


def text_field(value: Any, path: Path, name: str, line: int | None = None) -> str:
    """`value` stripped, if it is a string that is not blank.

    Raises:
        UserError: it is not; names the file, the line if there is one, and the field.
    """
    if not isinstance(value, str) or not value.strip():
        raise UserError(f"{path}{f':{line}' if line else ''}: {name}: a text was expected")
    return value.strip()


def expect(count: int, expected: int, path: Path) -> None:
    """Raise a UserError if a pinned file does not hold as many rows as it should."""
    if count != expected:
        raise UserError(f"{path}: holds {count} rows, {expected} were expected")


BY_HAND = "it comes by hand, and no hash of it is known here"
_COMMIT = re.compile(r"(?<![0-9a-f])[0-9a-f]{40}(?![0-9a-f])")


def commit_of(source: Source | None) -> str | None:
    """The commit that an address names, all 40 digits of it; None where it names a branch or none."""
    found = _COMMIT.search(repr(source))
    return None if found is None else found[0]


@dataclass(frozen=True)
class Published:
    """One file, or one folder of files, of a public data set.

    Attributes:
        path: where it lies under `UNSAY_DATA_DIR`.
        how: the one line that says how a person gets it.
        source: where it is fetched from, its revision pinned; None for what only a person can get: gated sets, archives
            to be unpacked, folders.
        sha256: the first 16 hex digits of a file's hash, where they are known; a fetched file must have it.
        floating: why nothing fixes its content, where neither a commit nor a hash does.
    """

    path: str
    how: str
    source: Source | None = None
    sha256: str | None = None
    floating: str = BY_HAND

    @property
    def here(self) -> bool:
        """Whether it can be read now, without a network."""
        return self._local() is not None or derived_folder(self._name, self._key).is_dir()

    @property
    def fetchable(self) -> bool:
        """Whether it can be fetched from its address."""
        return self.source is not None

    @property
    def missing(self) -> str:
        """What to do where it is not here."""
        return f"{self.path}: {self.how}"

    @property
    def pin(self) -> str:
        """What fixes the content of what is fetched: commit, sha256 or both; else `not pinned` and the reason."""
        checked = self.source is not None and self.sha256 is not None
        fixed = ["commit"] * (commit_of(self.source) is not None) + ["sha256"] * checked
        return " and ".join(fixed) or f"not pinned: {self.floating}"

    def find(self) -> Path:
        """Its path on this machine.

        Raises:
            UserError: it is not here and cannot be fetched; says how to get it.
        """
        if (local := self._local()) is not None:
            return local
        if self.source is None:
            folder = data_dir()
            if folder is None:
                raise UserError(f"set {DATA_DIR_VARIABLE} to a folder that holds {self.path}: {self.how}")
            raise UserError(f"{folder / self.path}: no such file or folder: {self.how}")
        return derived(self._name, self._key, self._fetch) / Path(self.path).name

    def _fetch(self, into: Path) -> None:
        assert self.source is not None
        name = Path(self.path).name
        self.source.fetch(into, [name])
        if self.sha256 is not None and file_key(into / name) != self.sha256:
            raise UserError(f"{self.path}: what was fetched is not the pinned file (wrong sha256); nothing was kept")

    def _local(self) -> Path | None:
        folder = data_dir()
        return folder / self.path if folder is not None and (folder / self.path).exists() else None

    @property
    def _name(self) -> str:
        return f"benchmark-{self.path.split('/')[0]}"

    @property
    def _key(self) -> str:
        return content_key(self.path, repr(self.source), self.sha256)


def github(
    path: str, repository: str, revision: str, file: str, sha256: str | None = None, floating: str = ""
) -> Published:
    """A file of a GitHub repository at a commit; see `hub` for `floating`."""
    url = f"https://raw.githubusercontent.com/{repository}/{revision}/{file}"
    return Published(path, f"`{file}` of github.com/{repository}", Url(url), sha256, floating)


def hub(
    path: str, dataset: str, file: str, revision: str = "main", sha256: str | None = None, floating: str = ""
) -> Published:
    """A file of a data set on the Hugging Face hub.

    Where no commit is known here (`main`), `floating` says why, and the first fetch decides: the cache keeps what it
    brought.
    """
    source = Hub(dataset, revision, file)
    return Published(path, f"`{file}` of huggingface.co/datasets/{dataset}", source, sha256, floating)


@dataclass(frozen=True)
class Pictures:
    """A folder of pictures.

    Attributes:
        path: where it lies under `UNSAY_DATA_DIR`.
        how: the one line that says how a person gets it.
        each: gives the source of one picture by its name, where they can be fetched one by one.
        floating: why nothing fixes their content, where no commit does.
    """

    path: str
    how: str
    each: Callable[[str], Source] | None = None
    floating: str = "they come by hand"

    @property
    def here(self) -> bool:
        """Whether the folder is in the benchmark folder."""
        folder = data_dir()
        return folder is not None and (folder / self.path).is_dir()

    @property
    def fetchable(self) -> bool:
        """Whether its pictures can be fetched one by one."""
        return self.each is not None

    @property
    def missing(self) -> str:
        """What to do where it is not here."""
        return f"{self.path}/: {self.how}"

    @property
    def pin(self) -> str:
        """As that of a file."""
        fixed = self.each is not None and commit_of(self.each("any")) is not None
        return "commit" if fixed else f"not pinned: {self.floating}"

    def picture(self, name: str) -> Path:
        """The path of one picture.

        Raises:
            UserError: it is not here and cannot be fetched, or its name leaves the folder.
        """
        if ".." in Path(name).parts or Path(name).is_absolute():
            raise UserError(f"{self.path}: {name!r} is no picture of that folder")
        source = self.each(name) if self.each is not None else None
        return Published(f"{self.path}/{name}", self.how, source).find()
