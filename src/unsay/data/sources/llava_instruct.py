"""LLaVA-Instruct-150K (Liu et al. 2023, arXiv 2304.08485): conversations about pictures of COCO's train part of 2017.

The first question about a picture and its answer are taken; of 157,712 conversations the first 20,000 are read.
OpenAI's terms, under which the answers were made, do not allow to train competing models with them.
"""

from unsay.assets import Url
from unsay.data.hub_sets import HubSet
from unsay.data.published import Pictures
from unsay.data.sources.licences import CC_BY
from unsay.data.sources.source import NORMAL, Source, Split
from unsay.records import Modality, SourceRow

TRAIN = HubSet(
    "llava_instruct",
    "liuhaotian/LLaVA-Instruct-150K",
    "llava_instruct_150k.json",
    "9d451dc7629cfe0469f6ae4432b765cd603d5fcb",
    ("image", "conversations"),
    most=20_000,
)
TRAIN2017 = Pictures(
    "coco/train2017",
    "train2017.zip of cocodataset.org, unpacked",
    lambda name: Url(f"http://images.cocodataset.org/train2017/{name}"),
    "they are fetched by name, without hashes",
)
PLACEHOLDER = "<image>"


def _rows() -> list[SourceRow]:
    rows = []
    for row in TRAIN.rows():
        turns = row.get("conversations")
        if not isinstance(turns, list) or [turn.get("from") for turn in turns[:2]] != ["human", "gpt"]:
            raise row.error("conversations: a turn of human and one of gpt were expected")
        question, answer = (str(turn.get("value") or "").replace(PLACEHOLDER, "").strip() for turn in turns[:2])
        if not question or not answer:
            raise row.error("conversations: a turn without a text")
        rows.append(SourceRow(text=question, source="llava_instruct", answers=(answer,), image=row.text("image")))
    return rows


SOURCE = Source(
    "llava_instruct",
    "LLaVA-Instruct-150K",
    "huggingface.co/datasets/liuhaotian/LLaVA-Instruct-150K; Liu et al. 2023, arXiv 2304.08485",
    CC_BY,
    {"train": Split(_rows, 20_000, NORMAL, Modality.IMAGE, (TRAIN, TRAIN2017), TRAIN2017.picture)},
)
