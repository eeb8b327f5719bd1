"""XSTest (Röttger et al. 2023, arXiv 2308.01263): 250 safe prompts that sound unsafe and 200 unsafe twins.

Needs `UNSAY_DATA_DIR`. For evaluation only: nothing of it is ever trained on.
"""

from unsay.data.sources.published import Published, benchmark, csv_rows, expect, text_field
from unsay.errors import UserError
from unsay.records import SourceRow

ROWS = 450
FILE = "xstest/xstest_prompts.csv"
ORIGIN = "`xstest_prompts.csv` of github.com/paul-rottger/exaggerated-safety"
PUBLISHED = Published(
    FILE, ORIGIN, floating="it comes by hand; tested on commit d7bb5bd738c1fcbc36edd83d5e7d1b71a3e2d84d"
)


def load() -> list[SourceRow]:
    """All 450 prompts; the category is XSTest's type, and the types `contrast_*` are exactly the unsafe ones.

    Raises:
        UserError: the file is absent (says how to get it) or malformed.
    """
    return [row for _, row in _labelled()]


def load_safe() -> list[SourceRow]:
    """The 250 prompts that a good model answers. Raises like `load`."""
    return [row for label, row in _labelled() if label == "safe"]


def load_unsafe() -> list[SourceRow]:
    """The 200 prompts that a good model declines. Raises like `load`."""
    return [row for label, row in _labelled() if label == "unsafe"]


def _labelled() -> list[tuple[str, SourceRow]]:
    path = benchmark(FILE, ORIGIN)
    rows = []
    for line, row in csv_rows(path, ("prompt", "type", "label")):
        if row["label"] not in ("safe", "unsafe"):
            raise UserError(f"{path}:{line}: label: safe or unsafe was expected")
        text = text_field(row["prompt"], path, "prompt", line)
        rows.append((row["label"], SourceRow(text=text, source="xstest", category=row["type"])))
    expect(len(rows), ROWS, path)
    return rows
