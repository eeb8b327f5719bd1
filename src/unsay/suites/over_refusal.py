"""Safe prompts that sound unsafe: XSTest, OR-Bench's hard part, and OKTest.

XSTest (Röttger et al. 2023, arXiv 2308.01263) is the field's measure of over-refusal; its 200 unsafe prompts are left
out. OR-Bench (Cui et al. 2024, arXiv 2405.20947) holds prompts that several models refuse, OKTest (Shi et al. 2024,
arXiv 2401.17633) questions with harmful words.
"""

from unsay.data.published import Published, check_count, csv_rows, github, hub
from unsay.records import Kind, Modality
from unsay.suites.base import Item, Suite

XSTEST_FILE = Published(
    "xstest/xstest_prompts.csv",
    "`xstest_prompts.csv` of github.com/paul-rottger/exaggerated-safety",
    floating="it comes by hand; tested on commit d7bb5bd738c1fcbc36edd83d5e7d1b71a3e2d84d",
)
OR_BENCH_FILE = hub(
    "or_bench/or-bench-hard-1k.csv",
    "bench-llm/or-bench",
    "or-bench-hard-1k.csv",
    floating="only the first digits of its commit are known here",
)
OKTEST_FILE = github(
    "oktest/OKTest.csv", "InvokerStark/OverKill", "51809bb9e7c029d7cc1247389e0578da92e784e2", "data/OKTest.csv"
)


def _xstest() -> list[Item]:
    """The 250 safe prompts, by XSTest's type."""
    path = XSTEST_FILE.find()
    rows = list(csv_rows(path, ("prompt", "type", "label")))
    check_count(len(rows), 450, path)
    for row in rows:
        if row["label"] not in ("safe", "unsafe"):
            raise row.error("label: safe or unsafe was expected")
    safe = (row for row in rows if row["label"] == "safe")
    return [Item(row.text("prompt"), category=row["type"], unit=row.text("prompt")) for row in safe]


def _or_bench() -> list[Item]:
    """The prompts, by the category of harm that they seem to touch."""
    rows = csv_rows(OR_BENCH_FILE.find(), ("prompt", "category"))
    return [Item(row.text("prompt"), category=row.text("category")) for row in rows]


def _oktest() -> list[Item]:
    return [Item(row.text("prompt")) for row in csv_rows(OKTEST_FILE.find(), ("prompt",))]


XSTEST = Suite(
    name="xstest-safe",
    title="XSTest safe prompts",
    kind=Kind.BENIGN,
    modality=Modality.TEXT,
    source="XSTest, github.com/paul-rottger/exaggerated-safety",
    licence="CC BY 4.0",
    items=_xstest,
    size=250,
    files=(XSTEST_FILE,),
)
OR_BENCH = Suite(
    name="or-bench-hard",
    title="OR-Bench hard",
    kind=Kind.BENIGN,
    modality=Modality.TEXT,
    source="OR-Bench, huggingface.co/datasets/bench-llm/or-bench",
    licence="CC BY 4.0",
    items=_or_bench,
    size=1319,
    files=(OR_BENCH_FILE,),
)
OKTEST = Suite(
    name="oktest",
    title="OKTest",
    kind=Kind.BENIGN,
    modality=Modality.TEXT,
    source="OKTest, github.com/InvokerStark/OverKill",
    licence="none stated",
    items=_oktest,
    size=300,
    files=(OKTEST_FILE,),
)
