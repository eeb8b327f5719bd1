"""Atomic writing, reading with errors that name file and line, and content keys."""

import difflib
import errno
import hashlib
import json
import os
import re
import secrets
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar, get_args

import yaml
from pydantic import BaseModel, ValidationError

from unsay.errors import UserError

Row = TypeVar("Row", bound=BaseModel)

MAX_PROBLEMS = 5
"""Mistakes in one file of settings that one message names."""


@contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside `path`; on success fsync it and rename it into place.

    No reader ever sees a half-written file: a kill leaves the old file (or none) and a stray `.tmp`.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f".{path.name[:60]}.{secrets.token_hex(4)}.tmp")
        # `open` and not `mkstemp`: the file gets the permissions that the user's umask gives any other file.
        temporary.open("xb").close()
        try:
            yield temporary
            with temporary.open("rb") as handle:
                os.fsync(handle.fileno())
            temporary.replace(path)
        finally:
            temporary.unlink(missing_ok=True)
    except OSError as error:
        raise _disk_error(error, path) from error


@contextmanager
def atomic_folder(folder: Path) -> Iterator[Path]:
    """Yield a temporary folder beside `folder`; on success rename it into place, otherwise leave nothing.

    Raises:
        UserError: the folder exists and is not empty, or is the current one; the disk is full, or it cannot be written.
    """
    folder = Path(folder)
    if folder.resolve() == Path.cwd():
        raise UserError(f"{folder}: is the current folder, which cannot be replaced; name a new one")
    if folder.is_symlink() or folder.is_file() or (folder.is_dir() and any(folder.iterdir())):
        raise UserError(f"{folder}: exists already; choose another name or remove it first")
    temporary = folder.with_name(f".{folder.name[:60]}.{secrets.token_hex(4)}.tmp")
    try:
        temporary.mkdir(parents=True)
        try:
            yield temporary
            for path in temporary.rglob("*"):
                if path.is_file():
                    with path.open("rb") as handle:
                        os.fsync(handle.fileno())
            if folder.is_dir():
                folder.rmdir()  # empty, as checked above
            temporary.replace(folder)
        finally:
            shutil.rmtree(temporary, ignore_errors=True)
    except OSError as error:
        raise _disk_error(error, folder) from error


def _disk_error(error: OSError, path: Path) -> UserError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return UserError(f"disk full while writing {path}: free some space and run the same command again")
    return UserError(f"cannot write {path}: {error.strerror or error}")


def write_text(path: Path, text: str) -> None:
    """Write `text` atomically (see `atomic_path`)."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def append_text(path: Path, text: str) -> None:
    """Append `text` to a file; it is with the operating system when the call returns, so a kill tears nothing older."""
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a", encoding="utf-8", newline="\n") as handle:
            handle.write(text)
    except OSError as error:
        raise _disk_error(error, path) from error


def write_json(path: Path, value: Any) -> None:
    """Write `value` as indented JSON, atomically."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False, sort_keys=False) + "\n")


def write_rows(path: Path, rows: Iterable[BaseModel]) -> None:
    """Write one JSON object per line, atomically."""
    write_text(path, "".join(row.model_dump_json() + "\n" for row in rows))


def read_text(path: Path) -> str:
    """Read UTF-8 text without the byte order mark that some editors write."""
    try:
        return Path(path).read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise UserError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise UserError(f"{path}: is a folder; give a file") from None
    except UnicodeDecodeError as error:
        raise UserError(f"{path}: not UTF-8 text (byte {error.start})") from None
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None


def read_json(path: Path) -> Any:
    """Read a JSON file."""
    try:
        return json.loads(read_text(path))
    except json.JSONDecodeError as error:
        raise UserError(f"{path}:{error.lineno}: not JSON: {error.msg}") from None
    except (ValueError, RecursionError):
        raise UserError(f"{path}: not JSON that can be read: a number is too long or the nesting too deep") from None


class _UniqueKeyLoader(yaml.SafeLoader):
    """Refuses equal keys. YAML's own loader keeps the last one and would lose the first of two `data:` sections."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        """The mapping as written, before merges, if each of its keys appears once."""
        node: yaml.MappingNode = super().compose_mapping_node(anchor)
        seen = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    problem = f"'{key.value[:60]}' appears twice: merge the two into one"
                    raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
                seen.add(key.value)
        return node


def read_versioned(path: Path, kind: type[Row], version: int, again: str) -> Row:
    """Read an object that carries its `schema_version`.

    Args:
        path: a JSON file.
        kind: what it holds.
        version: the one that this unsay reads.
        again: how to make a file of an earlier version anew.

    Raises:
        UserError: missing, not JSON, or not of this schema; names the field, or says what to do about another version.
    """
    value = read_json(path)
    found = value.get("schema_version") if isinstance(value, dict) else None
    if isinstance(found, int) and found != version:
        advice = again if found < version else "update unsay"
        raise UserError(f"{path}: schema_version is {found}, and this unsay reads {version}: {advice}")
    try:
        return kind.model_validate(value)
    except ValidationError as error:
        raise UserError(f"{path}: {first_problem(error)}") from None


def parse_yaml(text: str, where: str) -> Any:
    """Plain values from YAML.

    Raises:
        UserError: the YAML is malformed or a key appears twice; names the line.
    """
    try:
        return yaml.load(text, _UniqueKeyLoader)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark is not None else ""
        raise UserError(f"{where}{line}: not YAML: {getattr(error, 'problem', None) or 'malformed'}") from None
    except ValueError:
        raise UserError(f"{where}: not readable YAML: a date that does not exist? Put it in quotes") from None
    except RecursionError:
        raise UserError(f"{where}: not readable YAML: nested too deep") from None


def read_rows(path: Path, row_type: type[Row]) -> list[Row]:
    """Read a JSONL file whose every non-empty line is a valid `row_type`.

    Raises:
        UserError: a row is malformed; names file, line and field, and never repeats its content.
    """
    return [row for _, row in read_numbered_rows(path, row_type)]


def read_numbered_rows(path: Path, row_type: type[Row]) -> list[tuple[int, Row]]:
    """The rows of `read_rows`, each with its line number."""
    rows = []
    # Not `splitlines`: JSON allows U+2028 and its like inside strings.
    for number, line in enumerate(read_text(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            rows.append((number, row_type.model_validate_json(line)))
        except ValidationError as error:
            raise UserError(f"{path}:{number}: {first_problem(error)}") from None
    return rows


def first_problem(error: ValidationError) -> str:
    """The first of pydantic's errors as one short line that does not repeat the value."""
    return _words(error.errors(include_url=False, include_input=False, include_context=False)[0])


def problems(error: ValidationError, settings: type[BaseModel]) -> str:
    """All of pydantic's errors about `settings`, on one line; an unknown key beside the known one that it resembles."""
    found = error.errors(include_url=False, include_input=False, include_context=False)
    found = [problem for problem in found if not _follows(problem, found)]
    lines = []
    for problem in found[:MAX_PROBLEMS]:
        near = _near_key(problem["loc"], settings) if problem["type"] == "extra_forbidden" else None
        lines.append(_words(problem) + (f" (did you mean {near}?)" if near else ""))
    more = [f"and {len(found) - MAX_PROBLEMS} more"] if len(found) > MAX_PROBLEMS else []
    return "; ".join([*lines, *more])


def _follows(problem: Mapping[str, Any], found: Sequence[Mapping[str, Any]]) -> bool:
    """Whether a problem only follows from another: from an item of a list, or from a value that is missing."""
    if problem["type"] == "too_short":
        depth = len(problem["loc"])
        return any(len(other["loc"]) > depth and other["loc"][:depth] == problem["loc"] for other in found)
    return bool(problem["type"] == "default_factory_not_called")


_PLAIN = {"tuple_type": "expected a list: [a, b]", "model_type": "expected `key: value` lines, or {}"}
"""Types of pydantic's errors whose own words name Python's types → words for a file of settings."""


def _words(problem: Mapping[str, Any]) -> str:
    # The name of a key is user input: shown short, and on one line.
    where = "".join(char if char.isprintable() else " " for char in ".".join(str(part) for part in problem["loc"]))
    where = where if len(where) <= 60 else where[:57] + "..."
    if problem["type"] == "extra_forbidden":
        return f"{where}: unknown key"
    if problem["type"] == "json_invalid":
        return str(problem["msg"]).replace("Invalid JSON", "not JSON").replace(" at line 1 column ", " at column ")
    message = _PLAIN.get(problem["type"]) or str(problem["msg"]).removeprefix("Value error, ")
    message = re.sub(r"<\w+\.\w+: ('[^']*')>", r"\1", message)  # a member of an enumeration, by its value
    return f"{where}: {message}" if where else message


def _near_key(path: tuple[int | str, ...], settings: type[BaseModel]) -> str | None:
    """The key of the settings at `path` that its last part is most like."""
    *parents, key = path
    for part in parents:
        if isinstance(part, str) and part in settings.model_fields:
            inner = _inner(settings.model_fields[part].annotation)
            if inner is None:
                return None
            settings = inner
    return next(iter(difflib.get_close_matches(str(key), settings.model_fields, n=1)), None)


def _inner(annotation: Any) -> type[BaseModel] | None:
    """The settings in a field's type: `Settings`, `Settings | None`, `list[Settings]`, `dict[str, Settings]`."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    return next((inner for part in get_args(annotation) if (inner := _inner(part))), None)


def content_key(*parts: Any) -> str:
    """A 16-hex-digit key of JSON-serialisable parts; equal content gives an equal key on every machine."""
    text = json.dumps(parts, sort_keys=True, ensure_ascii=False, default=_plain)
    return hashlib.sha256(text.encode("utf-8", errors="surrogatepass")).hexdigest()[:16]


def file_key(path: Path) -> str:
    """A 16-hex-digit key of a file's bytes."""
    try:
        with Path(path).open("rb") as handle:
            return hashlib.file_digest(handle, "sha256").hexdigest()[:16]
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}") from None


def _plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(mode="json")
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"no content key for {type(value).__name__}")
