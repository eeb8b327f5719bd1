"""Safe prompts that sound unsafe: OR-Bench's hard part, OKTest and FalseReject's test part; XSTest has its own file.

OR-Bench (Cui et al. 2024, arXiv 2405.20947) holds prompts that several models refuse, OKTest (Shi et al. 2024,
arXiv 2401.17633) short questions with harmful words. FalseReject (Zhang et al. 2025, arXiv 2505.08054) has the long
ones: 1,187 prompts of 23 words in the median, checked by people. Its data set on the hub is the source; the file is the
copy that the authors of neuron-guided decoding publish, since it stands in a repository at a commit. For choosing a
recipe, 4 in 10 of its prompts are there to choose on, the others to report.
"""

from dataclasses import replace
from functools import partial

from unsay.data.published import csv_rows, github, hub, json_list
from unsay.data.splits import Side, side
from unsay.records import Kind, Modality
from unsay.suites.base import Item, Suite

OR_BENCH_FILE = hub(
    "or_bench/or-bench-hard-1k.csv",
    "bench-llm/or-bench",
    "or-bench-hard-1k.csv",
    floating="only the first digits of its commit are known here",
)
OKTEST_FILE = github(
    "oktest/OKTest.csv", "InvokerStark/OverKill", "51809bb9e7c029d7cc1247389e0578da92e784e2", "data/OKTest.csv"
)
FALSEREJECT_FILE = github(
    "falsereject/FalseReject_test.json",
    "Beijing-AISI/NGSD",
    "631b68454cfdc24446edc89552ae8804924f941b",
    "datasets/FalseReject_test.json",
    "b56c85c2029dfb80",
)


def _or_bench() -> list[Item]:
    """The prompts, by the category of harm that they seem to touch."""
    rows = csv_rows(OR_BENCH_FILE.find(), ("prompt", "category"))
    return [Item(row.text("prompt"), category=row.text("category")) for row in rows]


def _oktest() -> list[Item]:
    return [Item(row.text("prompt")) for row in csv_rows(OKTEST_FILE.find(), ("prompt",))]


def falsereject_prompts(half: Side | None = None) -> list[Item]:
    """The prompts, by the category that they seem to touch: `train` to choose on, `test` to report, None all."""
    rows = [Item(row.text("prompt"), category=row.text("category_text")) for row in json_list(FALSEREJECT_FILE.find())]
    return [row for row in rows if half in (None, side(row.text, "falsereject", test_share=0.6))]


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
    borderline=True,
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
    borderline=True,
)
FALSEREJECT = Suite(
    name="falsereject",
    title="FalseReject test part",
    kind=Kind.BENIGN,
    modality=Modality.TEXT,
    source="FalseReject, huggingface.co/datasets/AmazonScience/FalseReject",
    licence="CC BY-NC 4.0",
    items=falsereject_prompts,
    size=1187,
    files=(FALSEREJECT_FILE,),
    borderline=True,
)
FALSEREJECT_REPORTED = replace(
    FALSEREJECT,
    name="report-falsereject",
    title="FalseReject test part (reporting half)",
    items=partial(falsereject_prompts, "test"),
    size=None,
)
