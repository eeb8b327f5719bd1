"""Files that their authors publish: where they are on this machine, how they get here, and how they are read."""

import csv
import io
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unsay.assets import Hub, Source, Url, derived, derived_folder
from unsay.errors import UserError
from unsay.files import content_key, file_key, read_json, read_text

DATA_DIR_VARIABLE = "UNSAY_DATA_DIR"
BY_HAND = "it comes by hand, and no hash of it is known here"
_COMMIT = re.compile(r"(?<![0-9a-f])[0-9a-f]{40}(?![0-9a-f])")


class FormatError(UserError):
    """A published file, or one of its rows, is not as its authors published it."""


def data_dir() -> Path | None:
    """The folder of public benchmarks that `UNSAY_DATA_DIR` names, or None. It is never downloaded."""
    value = os.environ.get(DATA_DIR_VARIABLE)
    return Path(value).expanduser() if value else None


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
        fixed = ["commit"] * _names_commit(self.source) + ["sha256"] * checked
        return " and ".join(fixed) or f"not pinned: {self.floating}"

    @property
    def fingerprint(self) -> str | None:
        """A key of what is here: of a file its bytes, of a folder every file's path, size and time; else None."""
        if not self.here:
            return None
        path = self.find()
        if path.is_file():
            return file_key(path)
        stats = [(each.relative_to(path).as_posix(), each.stat()) for each in sorted(path.rglob("*")) if each.is_file()]
        return content_key([[name, stat.st_size, stat.st_mtime_ns] for name, stat in stats])

    def find(self) -> Path:
        """Its path on this machine."""
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
        try:
            self.source.fetch(into, [name])
            if self.sha256 is not None and file_key(into / name) != self.sha256:
                raise UserError(f"{self.path}: what was fetched is not the pinned file (wrong sha256)")
        except UserError as error:
            by_hand = f"by hand it goes to {self.path} of the folder that {DATA_DIR_VARIABLE} names: {self.how}"
            raise UserError(f"{error}; {by_hand}") from None

    def _local(self) -> Path | None:
        folder = data_dir()
        return folder / self.path if folder is not None and (folder / self.path).exists() else None

    @property
    def _name(self) -> str:
        return f"benchmark-{self.path.split('/')[0]}"

    @property
    def _key(self) -> str:
        return content_key(self.path, repr(self.source), self.sha256)


def _names_commit(source: Source | None) -> bool:
    """Whether an address names all 40 digits of a commit."""
    return _COMMIT.search(repr(source)) is not None


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
        fixed = self.each is not None and _names_commit(self.each("any"))
        return "commit" if fixed else f"not pinned: {self.floating}"

    @property
    def fingerprint(self) -> str | None:
        """None: pictures go by their names and, once they are part of a row, by their own content."""
        return None

    def picture(self, name: str) -> Path:
        """The path of one picture."""
        if ".." in Path(name).parts or Path(name).is_absolute():
            raise UserError(f"{self.path}: {name!r} is no picture of that folder")
        source = self.each(name) if self.each is not None else None
        return Published(f"{self.path}/{name}", self.how, source).find()


def github_pictures(path: str, repository: str, revision: str, folder: str, floating: str = "") -> Pictures:
    """The pictures in a folder of a GitHub repository, fetched one by one."""
    address = f"https://raw.githubusercontent.com/{repository}/{revision}/{folder}"
    how = f"`{folder}` of github.com/{repository}"
    return Pictures(path, how, lambda name: Url(f"{address}/{name}"), floating)


def hub_pictures(path: str, dataset: str, revision: str, folder: str) -> Pictures:
    """The pictures in a folder of a data set on the Hugging Face hub, fetched one by one."""
    how = f"`{folder}` of huggingface.co/datasets/{dataset}"
    return Pictures(path, how, lambda name: Hub(dataset, revision, f"{folder}/{name}"))


class Row(dict[str, Any]):
    """One row of a published file, which knows where it stands."""

    def __init__(self, values: Mapping[str, Any], where: str) -> None:
        super().__init__(values)
        self.where = where

    def text(self, name: str) -> str:
        """The text of a field, stripped.

        Raises:
            UserError: the field is missing, blank or no text.
        """
        value = self.get(name)
        if not isinstance(value, str) or not value.strip():
            raise self.error(f"{name}: a text was expected")
        return value.strip()

    def filled(self, name: str) -> tuple[str, ...]:
        """The text of a field, stripped, alone in a tuple; empty where it is blank, as a few cells of large sets are.

        Raises:
            UserError: the field is missing or no text.
        """
        value = self.get(name)
        return () if isinstance(value, str) and not value.strip() else (self.text(name),)

    def error(self, problem: str) -> FormatError:
        """An error that names the file and the row; for `raise`."""
        return FormatError(f"{self.where}: {problem}")


def csv_rows(path: Path, columns: Sequence[str]) -> Iterator[Row]:
    """Yield the rows of a CSV file with a header, each of which has all of `columns`.

    Lines before the header that begin with `#` are skipped. Only those: a cell may well hold lines such as `#include`.
    """
    lines = read_text(path).removeprefix("\ufeff").splitlines(keepends=True)
    comments = 0
    while comments < len(lines) and lines[comments].startswith("#"):
        comments += 1
    reader = csv.DictReader(io.StringIO("".join(lines[comments:]), newline=""), strict=True)
    try:
        missing = [column for column in columns if column not in (reader.fieldnames or ())]
        if missing:
            raise FormatError(f"{path}:{comments + 1}: no column {missing[0]!r}")
        for values in reader:
            row = Row(values, f"{path}:{comments + reader.line_num}")
            if None in values or any(row[column] is None for column in columns):
                raise row.error("another number of cells than the header")
            yield row
    except csv.Error as error:
        # line_num counts the lines that were read without an error.
        raise FormatError(f"{path}:{comments + reader.line_num + 1}: not CSV: {error}") from None


def json_lines(path: Path) -> Iterator[Row]:
    """Yield the objects of a JSONL file."""
    for line, text in enumerate(read_text(path).split("\n"), start=1):
        if not text.strip():
            continue
        try:
            value = json.loads(text)
        except json.JSONDecodeError as error:
            raise FormatError(f"{path}:{line}: not JSON: {error.msg}") from None
        yield _row(value, f"{path}:{line}")


def json_list(path: Path, key: str | None = None) -> list[Row]:
    """The objects of a JSON file that is a list of them, or that has such a list under a key."""
    value = read_json(path)
    if key is not None:
        value = value.get(key) if isinstance(value, dict) else None
    if not isinstance(value, list):
        raise FormatError(f"{path}: {f'{key}: ' if key else ''}a list was expected")
    entry = f"{key} entry" if key else "entry"
    return [_row(row, f"{path}: {entry} {number}") for number, row in enumerate(value, start=1)]


def json_object(path: Path) -> dict[str, Row]:
    """The objects that a JSON file holds under names."""
    value = read_json(path)
    if not isinstance(value, dict):
        raise FormatError(f"{path}: an object was expected")
    return {name: _row(row, f"{path}: {name}") for name, row in value.items()}


def _row(value: Any, where: str) -> Row:
    if not isinstance(value, dict):
        raise FormatError(f"{where}: an object was expected")
    return Row(value, where)


def parquet_rows(path: Path, columns: Sequence[str], where: tuple[str, int] | None = None) -> list[Row]:
    """The rows of a parquet file, with `columns` only; pictures come as `{"bytes", "path"}`.

    Raises:
        UserError: pyarrow is not installed, the file is no parquet file, or a column is missing.
    """
    try:
        import pyarrow.parquet
    except ImportError:
        raise UserError(f"{path}: parquet files need pyarrow: pip install 'unsay[benchmarks]'") from None
    try:
        present = pyarrow.parquet.read_schema(path).names
        needed = (*columns, where[0]) if where else columns
        if missing := [column for column in needed if column not in present]:
            raise FormatError(f"{path}: no column {missing[0]!r}")
        filters = None if where is None else [(where[0], "=", where[1])]
        table = pyarrow.parquet.read_table(path, columns=list(columns), filters=filters)
        rows = table.to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise FormatError(f"{path}: not a parquet file that can be read ({type(error).__name__})") from None
    part = f" of {where[0]} {where[1]}" if where else ""
    return [Row(row, f"{path}: row {number}{part}") for number, row in enumerate(rows, start=1)]


def check_count(count: int, expected: int, path: Path) -> None:
    """Raise a FormatError if a file does not hold as many rows as its authors publish."""
    if count != expected:
        raise FormatError(f"{path}: holds {count} rows, {expected} were expected")
