"""Reading other people's files: CSV with comment lines, JSON lines, and the optional benchmark folder."""

import csv
import io
import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from unsay.errors import UserError
from unsay.files import read_json, read_text

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
