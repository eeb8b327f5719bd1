"""XSTest (Röttger et al. 2023, arXiv 2308.01263): 250 safe prompts that sound unsafe, and 200 unsafe ones.

`xstest-safe` is the field's measure of over-refusal. For choosing a recipe the set is cut into halves: one to choose
on, one to report. A safe prompt and its unsafe twin are about the same word; such pairs stay on one side.
"""

from dataclasses import replace
from functools import partial
from typing import Literal

from unsay.data.published import Published, Row, check_count, csv_rows
from unsay.data.splits import Side, side
from unsay.records import Kind, Modality
from unsay.suites.base import Item, Suite

FILE = Published(
    "xstest/xstest_prompts.csv",
    "`xstest_prompts.csv` of github.com/paul-rottger/exaggerated-safety",
    floating="it comes by hand; tested on commit d7bb5bd738c1fcbc36edd83d5e7d1b71a3e2d84d",
)
Label = Literal["safe", "unsafe"]


def prompts(label: Label, half: Side | None = None) -> list[Item]:
    """The prompts of one label, by XSTest's type; those of `half`: `train` to choose on, `test` to report, None all."""
    path = FILE.find()
    rows = list(csv_rows(path, ("prompt", "type", "label", "focus")))
    check_count(len(rows), 450, path)
    for row in rows:
        if row["label"] not in ("safe", "unsafe"):
            raise row.error("label: safe or unsafe was expected")
    chosen = (row for row in rows if row["label"] == label and half in (None, _side(row)))
    return [Item(row.text("prompt"), category=row["type"], unit=row.text("prompt")) for row in chosen]


def _side(row: Row) -> Side:
    """By the word that the prompt is about; by the prompt where XSTest names none."""
    return side(row["focus"].strip() or row.text("prompt"))


SUITE = Suite(
    name="xstest-safe",
    title="XSTest safe prompts",
    kind=Kind.BENIGN,
    modality=Modality.TEXT,
    source="XSTest, github.com/paul-rottger/exaggerated-safety",
    licence="CC BY 4.0",
    items=partial(prompts, "safe"),
    size=250,
    files=(FILE,),
    borderline=True,
)


def half_suite(label: Label, half: Side) -> Suite:
    """The suite of one label and half, named for what it is for."""
    prefix, use = {"train": ("dev", "development"), "test": ("report", "reporting half")}[half]
    return replace(
        SUITE,
        name=f"{prefix}-xstest-{label}",
        title=f"XSTest {label} prompts ({use})",
        kind=Kind.BENIGN if label == "safe" else Kind.ATTACK,
        items=partial(prompts, label, half),
        size=None,
        borderline=label == "safe",
    )


SAFE_REPORTED = half_suite("safe", "test")
UNSAFE_REPORTED = half_suite("unsafe", "test")
