"""UltraChat 200k (Ding et al. 2023, arXiv 2305.14233; filtered by Tunstall et al. 2023): conversations of GPT-3.5.

The first question of a conversation and its answer are taken. 207,865 conversations are published, 730 MB; the first
20,000 are read.
"""

from unsay.data.hub_sets import HubSet
from unsay.data.sources.licences import MIT
from unsay.data.sources.source import NORMAL, Source, Split
from unsay.records import SourceRow

TRAIN = HubSet(
    "ultrachat",
    "HuggingFaceH4/ultrachat_200k",
    "data/train_sft-*.parquet",
    "8049631c405ae6576f93f445c6b8166f76f5505a",
    ("messages",),
    most=20_000,
)


def _rows() -> list[SourceRow]:
    rows = []
    for row in TRAIN.rows():
        turns = row.get("messages")
        if not isinstance(turns, list) or not all(isinstance(turn, dict) and "role" in turn for turn in turns):
            raise row.error("messages: a list of turns was expected")
        texts = [str(turn.get("content") or "").strip() for turn in turns[:2]]
        if [turn["role"] for turn in turns[:2]] == ["user", "assistant"] and all(texts):
            rows.append(SourceRow(text=texts[0], source="ultrachat", answers=(texts[1],)))
    return rows


SOURCE = Source(
    "ultrachat",
    "UltraChat 200k",
    "huggingface.co/datasets/HuggingFaceH4/ultrachat_200k; Ding et al. 2023, arXiv 2305.14233",
    MIT,
    {"train": Split(_rows, None, NORMAL, files=(TRAIN,))},
)
