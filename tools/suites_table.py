"""Writes the tables of suites into docs/suites.md, and their number into the README; `tools.golden` calls it."""

import re
from collections.abc import Sequence
from pathlib import Path

from unsay.data.published import Pictures, Published
from unsay.errors import UserError
from unsay.files import read_text, write_text
from unsay.suites import GROUPS, SUITES, Suite

ROOT = Path(__file__).parents[1]
PAGE, README = ROOT / "docs/suites.md", ROOT / "README.md"
TABLE = re.compile(r"(?<=<!-- suites:begin -->\n).*(?=\n<!-- suites:end -->)", re.DOTALL)
GROUPED = re.compile(r"(?<=<!-- groups:begin -->\n).*(?=<!-- groups:end -->)", re.DOTALL)
COUNT = re.compile(r"(?<=`unsay suites` lists )\d+(?= suites)")
HEAD = ("suite", "kind", "modality", "prompts", "licence", "source", "fixed by")


def table() -> str:
    """The table as Markdown; it says nothing of this machine."""
    return _table(HEAD, [_row(suite) for suite in SUITES.values()])


def groups() -> str:
    """The groups, as Markdown: each suite, and the forms of it that the group has."""
    rows = []
    for name, suites in GROUPS.items():
        twins = {suite.name for suite in suites if suite.twin in {each.name for each in suites}}
        for suite in suites:
            forms = [each.name.removeprefix(f"{suite.name}-") for each in suites if each.twin == suite.name]
            if suite.name not in twins:
                rows.append((name, f"`{suite.name}`", suite.kind.value, ", ".join(forms), suite.source))
    return _table(("group", "suite", "kind", "also as", "source"), rows)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [head, ("---",) * len(head), *rows]
    return "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in lines)


def _row(suite: Suite) -> tuple[str, ...]:
    size = f"{suite.size:,}" if suite.size is not None else "see text" if suite.needs_data else "drawn"
    return f"`{suite.name}`", suite.kind.value, suite.modality.value, size, suite.licence, suite.source, _pins(suite)


def _pins(suite: Suite) -> str:
    """What fixes the content of its files; `not pinned` and the reason where nothing does."""
    if not suite.files:
        return "sha256" if "wheel" in suite.source else "part of unsay"
    files = dict.fromkeys(file.pin for file in suite.files if isinstance(file, Published))
    pictures = dict.fromkeys(file.pin for file in suite.files if isinstance(file, Pictures) and file.pin not in files)
    return "; ".join([*files, *(f"pictures {pin}" for pin in pictures)])


def write() -> None:
    """Write both pages.

    Raises:
        UserError: a page lacks the place to write to, or has it twice.
    """
    _replace(PAGE, TABLE, table())
    _replace(PAGE, GROUPED, f"{groups()}\n")
    _replace(README, COUNT, str(len(SUITES)))


def _replace(page: Path, place: re.Pattern[str], text: str) -> None:
    changed, times = place.subn(lambda _: text, read_text(page))
    if times != 1:
        raise UserError(f"{page}: {times} places match {place.pattern!r}, 1 was expected")
    write_text(page, changed)
