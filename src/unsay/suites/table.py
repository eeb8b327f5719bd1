"""The table of suites: for the terminal, and for docs/suites.md.

python -m unsay.suites.table docs/suites.md       writes the table between the page's two markers
"""

import sys
from pathlib import Path

from unsay.data.sources.published import Pictures, Published
from unsay.errors import UserError
from unsay.files import read_text, write_text
from unsay.suites import SUITES, Suite

BEGIN, END = "<!-- suites:begin -->", "<!-- suites:end -->"
HEAD = ("suite", "kind", "modality", "prompts", "licence", "source", "fixed by")


def lines() -> list[str]:
    """The table as Markdown; it says nothing of this machine."""
    rows = [HEAD, ("---",) * len(HEAD), *(_row(suite) for suite in SUITES.values())]
    return [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]


def _row(suite: Suite) -> tuple[str, ...]:
    size = f"{suite.size:,}" if suite.size is not None else "see text" if suite.needs_data else "drawn"
    return f"`{suite.name}`", suite.kind.value, suite.modality.value, size, suite.licence, suite.source, pins(suite)


def pins(suite: Suite) -> str:
    """What fixes the content of its files; `not pinned` and the reason where nothing does."""
    if not suite.files:
        return "sha256" if "wheel" in suite.source else "part of unsay"
    files = dict.fromkeys(file.pin for file in suite.files if isinstance(file, Published))
    pictures = dict.fromkeys(file.pin for file in suite.files if isinstance(file, Pictures) and file.pin not in files)
    return "; ".join([*files, *(f"pictures {pin}" for pin in pictures)])


def write(page: Path) -> None:
    """Put the table into a page.

    Raises:
        UserError: the markers are not there exactly once, in order.
    """
    text = read_text(page)
    if text.count(BEGIN) != 1 or text.count(END) != 1 or text.index(END) < text.index(BEGIN):
        raise UserError(f"{page}: needs the lines {BEGIN} and {END} once each, in this order")
    before, _, rest = text.partition(BEGIN)
    table = "\n".join(lines())
    write_text(page, f"{before}{BEGIN}\n{table}\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
