"""Writes the table of checks into docs/robustness.md; `tools.golden` calls it."""

from pathlib import Path

from tools.markers import replace_between
from unsay.files import read_text, write_text
from unsay.robustness import CHECKS

PAGE = Path(__file__).parents[1] / "docs/robustness.md"
BEGIN, END = "<!-- checks:begin -->", "<!-- checks:end -->"


def table() -> str:
    """The checks as Markdown."""
    lines = ["| check | what is done | quick | source |", "| --- | --- | --- | --- |"]
    for check in CHECKS.values():
        cells = (f"`{check.name}`", check.setting, "yes" if check.quick else "", check.source)
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def write() -> None:
    """Write the page.

    Raises:
        UserError: the page lacks the place to write to, or has it twice.
    """
    write_text(PAGE, replace_between(read_text(PAGE), BEGIN, END, table(), str(PAGE)))
