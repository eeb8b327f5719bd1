"""The house stays readable: short files, telling file names, no private names of siblings, tests beside their rooms."""

import ast
import re
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src/unsay"
FILES = sorted(PACKAGE.rglob("*.py"))
LONGEST = 400
"""Lines of a file."""
TWICE = 8
"""File names that may occur twice, beside `__init__`: a data set that is trained on and asked, what every room has."""


def test_no_file_is_longer_than_a_sitting() -> None:
    long = {str(path.relative_to(ROOT)): lines for path in FILES if (lines := len(path.open().readlines())) > LONGEST}
    assert not long


def test_file_names_tell_files_apart() -> None:
    names = Counter(path.name for path in FILES if path.name != "__init__.py")
    twice = {name for name, count in names.items() if count > 1}
    assert len(twice) <= TWICE, twice
    assert max(names.values()) <= 4, names.most_common(3)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.relative_to(PACKAGE).as_posix())
def test_nobody_imports_a_siblings_private_name(path: Path) -> None:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)]
    ours = [node for node in imports if (node.module or "").startswith("unsay")]
    private = [alias.name for node in ours for alias in node.names if alias.name.startswith("_")]
    assert not [name for name in private if not name.startswith("__")]


def test_no_key_is_made_of_source_files() -> None:
    """A file that hashes its own source would redo work for a mended docstring; versions decide instead."""
    hashing = [
        path.name for path in FILES if "file_key(Path(__file__" in (text := path.read_text()) or ".__file__" in text
    ]
    assert hashing == []


def test_the_tests_mirror_the_rooms() -> None:
    rooms = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    folders = {path.name for path in (ROOT / "tests").iterdir() if path.is_dir() and list(path.glob("test_*.py"))}
    assert folders - rooms == {"tools"}, "a folder of tests has no room"
    tested_above = {"statistics"}  # one file of tests for one idea: tests/test_statistics.py
    assert rooms - folders <= tested_above, "a room has no folder of tests"


def test_the_page_names_files_that_exist() -> None:
    page = (ROOT / "docs/design.md").read_text(encoding="utf-8")
    named = set(re.findall(r"`((?:[a-z_]+/)*[a-z_]+\.py)`", page))
    assert len(named) > 50, "the walks name their files"
    assert not [name for name in named if not (PACKAGE / name).exists() and not (ROOT / name).exists()]
