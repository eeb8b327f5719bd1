"""The fields of `study.json` for docs/studies.md, from the schema itself.

python -m tools.study_fields docs/studies.md       writes the table between the page's two markers
"""

import ast
import inspect
import re
import sys
from collections.abc import Iterator
from itertools import zip_longest
from pathlib import Path

from tools.markers import replace_between
from unsay.files import read_text, write_text
from unsay.scoring.schema import Row
from unsay.studies.schema import (
    ArmRow,
    CategoryRow,
    Comparison,
    Cost,
    FailedSeed,
    Measure,
    Place,
    PublishedRow,
    Ranking,
    StudyResult,
)

ROWS: tuple[type[Row], ...] = (
    StudyResult,
    ArmRow,
    Measure,
    Cost,
    FailedSeed,
    Ranking,
    Place,
    Comparison,
    CategoryRow,
    PublishedRow,
)
"""The whole, then what stands in it."""

MARKS = "<!-- study:fields -->", "<!-- /study:fields -->"
HEAD = ("in", "field", "type", "what it holds")


def lines() -> list[str]:
    """The table as Markdown."""
    rows = [HEAD, ("---",) * len(HEAD)]
    for kind in ROWS:
        where = "the file" if kind is StudyResult else kind.__name__
        rows += [(where, f"`{name}`", of, text) for name, of, text in documented(kind)]
    return [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in row)} |" for row in rows]


def documented(kind: type[Row]) -> Iterator[tuple[str, str, str]]:
    """Name and type of each field of a row, and the string that stands below it in the source."""
    (definition,) = ast.parse(inspect.getsource(kind)).body
    assert isinstance(definition, ast.ClassDef)
    for field, below in zip_longest(definition.body, definition.body[1:]):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            text = str(ast.literal_eval(below.value)) if isinstance(below, ast.Expr) else ""
            text = " ".join(text.split()).replace("None", "null")
            yield field.target.id, _spelled(ast.unparse(field.annotation)), text


def _spelled(annotation: str) -> str:
    """A type as JSON has it: `list of str` for `tuple[str, ...]`, `null` for `None`."""
    spelled = re.sub(r"tuple\[(.+), \.\.\.\]", r"list of \1", annotation)
    spelled = re.sub(r"dict\[str, (.+?)\]", r"name → \1", spelled)
    spelled = re.sub(r"Literal\[(.+?)\]", r"\1", spelled)
    return spelled.replace(" | ", " or ").replace("None", "null")


def main() -> None:
    """Write the table into the page that is named.

    Raises:
        UserError: the markers are not there exactly once, in order.
    """
    page = Path(sys.argv[1])
    write_text(page, replace_between(read_text(page), *MARKS, "\n".join(lines()), str(page)))


if __name__ == "__main__":
    main()
