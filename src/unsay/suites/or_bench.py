"""OR-Bench (Cui et al. 2024, arXiv 2405.20947), its hard part: safe prompts that several models refuse."""

from unsay.data.sources.published import hub
from unsay.data.sources.reading import csv_rows, text_field
from unsay.records import Kind, Modality
from unsay.suites.base import Suite
from unsay.suites.listing import Item, listed

DATASET = "bench-llm/or-bench"
FILE = hub(
    "or_bench/or-bench-hard-1k.csv",
    DATASET,
    "or-bench-hard-1k.csv",
    floating="only the first digits of its commit are known here",
)


def items() -> list[Item]:
    """The prompts, by the category of harm that they seem to touch.

    Raises:
        UserError: the file cannot be had, or is malformed.
    """
    path = FILE.find()
    return [
        Item(
            text=text_field(row["prompt"], path, "prompt", line),
            category=text_field(row["category"], path, "category", line),
        )
        for line, row in csv_rows(path, ("prompt", "category"))
    ]


SUITE: Suite = Suite(
    name="or-bench-hard",
    title="OR-Bench hard",
    kind=Kind.BENIGN,
    modality=Modality.TEXT,
    source=f"OR-Bench, huggingface.co/datasets/{DATASET}",
    licence="CC BY 4.0",
    prompts=lambda setting: listed(SUITE, items(), setting),
    size=1319,
    files=(FILE,),
)
