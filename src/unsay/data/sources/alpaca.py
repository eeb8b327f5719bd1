"""Alpaca, cleaned (Taori et al. 2023, cleaned by Ruebsamen): 51,760 instructions with answers of GPT models.

An instruction with an input is asked with it, on lines of its own. OpenAI's terms, under which the answers were made,
do not allow to train competing models with them.
"""

from unsay.data.hub_sets import HubSet
from unsay.data.sources.licences import CC_BY
from unsay.data.sources.source import NORMAL, Source, Split
from unsay.records import SourceRow

TRAIN = HubSet(
    "alpaca_cleaned",
    "yahma/alpaca-cleaned",
    "alpaca_data_cleaned.json",
    "12567cabf869d7c92e573c7c783905fc160e9639",
    ("instruction", "input", "output"),
)


def _rows() -> list[SourceRow]:
    rows = []
    for row in TRAIN.rows():
        given = row.get("input")
        if not isinstance(given, str):
            raise row.error("input: a text was expected")
        if not str(row.get("output") or "").strip():
            continue  # a few instructions have no answer
        text = row.text("instruction") + (f"\n\n{given.strip()}" if given.strip() else "")
        rows.append(SourceRow(text=text, source="alpaca_cleaned", answers=(row.text("output"),)))
    return rows


SOURCE = Source(
    "alpaca_cleaned",
    "Alpaca, cleaned",
    "huggingface.co/datasets/yahma/alpaca-cleaned",
    CC_BY,
    {"train": Split(_rows, None, NORMAL, files=(TRAIN,))},
)
