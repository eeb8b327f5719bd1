"""Safe prompts that sound unsafe: XSTest, OR-Bench and OKTest.

XSTest (Röttger et al. 2023, arXiv 2308.01263), its safe prompts: the field's measure of over-refusal.

OR-Bench (Cui et al. 2024, arXiv 2405.20947), its hard part: safe prompts that several models refuse.

OKTest (Shi et al. 2024, arXiv 2401.17633): safe questions that hold harmful words.
"""

from unsay.data.sources import xstest
from unsay.data.sources.published import csv_rows, github, hub, text_field
from unsay.records import Kind, Modality, Prompt
from unsay.suites.base import Setting, Suite, sample
from unsay.suites.listing import Item, listed


def _prompts(setting: Setting) -> list[Prompt]:
    rows = xstest.load_safe()
    chosen = sample([row.text for row in rows], setting.limit, [row.category for row in rows])
    return [XSTEST.row(rows[index].text, category=rows[index].category) for index in chosen]


XSTEST = Suite(
    name="xstest-safe",
    title="XSTest safe prompts",
    kind=Kind.BENIGN,
    modality=Modality.TEXT,
    source="XSTest, github.com/paul-rottger/exaggerated-safety",
    licence="CC BY 4.0",
    prompts=_prompts,
    size=250,
    files=(xstest.PUBLISHED,),
)


DATASET = "bench-llm/or-bench"
OR_BENCH_FILE = hub(
    "or_bench/or-bench-hard-1k.csv",
    DATASET,
    "or-bench-hard-1k.csv",
    floating="only the first digits of its commit are known here",
)


def or_bench_items() -> list[Item]:
    """The prompts, by the category of harm that they seem to touch.

    Raises:
        UserError: the file cannot be had, or is malformed.
    """
    path = OR_BENCH_FILE.find()
    return [
        Item(
            text=text_field(row["prompt"], path, "prompt", line),
            category=text_field(row["category"], path, "category", line),
        )
        for line, row in csv_rows(path, ("prompt", "category"))
    ]


OR_BENCH: Suite = Suite(
    name="or-bench-hard",
    title="OR-Bench hard",
    kind=Kind.BENIGN,
    modality=Modality.TEXT,
    source=f"OR-Bench, huggingface.co/datasets/{DATASET}",
    licence="CC BY 4.0",
    prompts=lambda setting: listed(OR_BENCH, or_bench_items(), setting),
    size=1319,
    files=(OR_BENCH_FILE,),
)


REPOSITORY = "InvokerStark/OverKill"
OKTEST_FILE = github("oktest/OKTest.csv", REPOSITORY, "51809bb9e7c029d7cc1247389e0578da92e784e2", "data/OKTest.csv")


def oktest_items() -> list[Item]:
    """The questions.

    Raises:
        UserError: the file cannot be had, or is malformed.
    """
    path = OKTEST_FILE.find()
    return [Item(text=text_field(row["prompt"], path, "prompt", line)) for line, row in csv_rows(path, ("prompt",))]


OKTEST: Suite = Suite(
    name="oktest",
    title="OKTest",
    kind=Kind.BENIGN,
    modality=Modality.TEXT,
    source=f"OKTest, github.com/{REPOSITORY}",
    licence="none stated",
    prompts=lambda setting: listed(OKTEST, oktest_items(), setting),
    size=300,
    files=(OKTEST_FILE,),
)
