"""FalseReject's train part (Zhang et al. 2025, arXiv 2505.08054): 14,624 harmless prompts that sound harmful.

The suite asks the test part, which people have checked.
"""

from unsay.data.hub_sets import HubSet
from unsay.data.sources.licences import CC_BY_NC
from unsay.data.sources.source import NORMAL, Source, Split
from unsay.records import SourceRow

TRAIN = HubSet(
    "falsereject",
    "AmazonScience/FalseReject",
    "train.jsonl",
    "main",
    ("prompt", "category_text", "instruct_response"),
    floating="only the first digits of its commit are known here",
)


def _rows() -> list[SourceRow]:
    rows = []
    for row in TRAIN.rows():
        answer = row.get("instruct_response")
        known = (answer.strip(),) if isinstance(answer, str) and answer.strip() else ()
        rows.append(
            SourceRow(text=row.text("prompt"), source="falsereject", category=row.get("category_text"), answers=known)
        )
    return rows


SOURCE = Source(
    "falsereject",
    "FalseReject, train part",
    "huggingface.co/datasets/AmazonScience/FalseReject; Zhang et al. 2025, arXiv 2505.08054",
    CC_BY_NC,
    {"train": Split(_rows, 14_624, NORMAL, files=(TRAIN,))},
    borderline=True,
)
