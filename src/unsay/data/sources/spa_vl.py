"""SPA-VL (Zhang et al. 2024, arXiv 2406.12030): questions about pictures, each with a chosen and a rejected answer.

The chosen answer is the safer and more helpful one of several models'. 93,258 pairs are published, 3.8 GB with their
pictures; the first 4,000 are read.
"""

from unsay.data.hub_sets import HubSet
from unsay.data.sources.licences import CC_BY
from unsay.data.sources.source import HARM, Source, Split
from unsay.records import Modality, SourceRow

TRAIN = HubSet(
    "spa_vl",
    "sqrti/SPA-VL",
    "data/train-*.parquet",
    "a06c4cd430153777f56e6ced9cbd723ea9587512",
    ("question", "chosen", "rejected", "class1"),
    picture="image",
    most=4000,
)


def _rows() -> list[SourceRow]:
    return [
        SourceRow(
            text=row.text("question"),
            source="spa_vl",
            category=row.get("class1"),
            answers=row.filled("chosen"),
            harmful=harmful,
            image=row.text("image"),
        )
        for row in TRAIN.rows()
        if (harmful := row.filled("rejected"))
    ]


SOURCE = Source(
    "spa_vl",
    "SPA-VL",
    "huggingface.co/datasets/sqrti/SPA-VL; Zhang et al. 2024, arXiv 2406.12030",
    CC_BY,
    {"train": Split(_rows, 4000, HARM, Modality.IMAGE, (TRAIN,))},
)
