"""Latent adversarial training's data (Sheshadri et al. 2024, arXiv 2407.15549): requests with both sorts of answers.

In the harmful set `chosen` is a refusal and `rejected` complies; the benign set has requests with helpful answers.
"""

from unsay.data.hub_sets import HubSet
from unsay.data.sources.licences import UNSTATED
from unsay.data.sources.source import HARM, NORMAL, Source, Split, merged
from unsay.records import SourceRow

HARMFUL = HubSet(
    "llm_lat",
    "LLM-LAT/harmful-dataset",
    "data/train-00000-of-00001.parquet",
    "8bfba31bc6d93a5b71808fee5275ef4b6330ed91",
    ("prompt", "rejected", "chosen"),
)
BENIGN = HubSet(
    "llm_lat_benign",
    "LLM-LAT/benign-dataset",
    "data/train-*.parquet",
    "main",
    ("prompt", "response"),
    most=20_000,
    floating="no commit is known here",
)


def _harmful() -> list[SourceRow]:
    rows = merged(
        SourceRow(
            text=row.text("prompt"),
            source="llm_lat",
            answers=row.filled("chosen"),
            harmful=row.filled("rejected"),
        )
        for row in HARMFUL.rows()
    )
    return [row for row in rows if row.harmful]


def _benign() -> list[SourceRow]:
    return merged(
        SourceRow(text=row.text("prompt"), source="llm_lat", answers=row.filled("response")) for row in BENIGN.rows()
    )


SOURCE = Source(
    "llm_lat",
    "LLM-LAT harmful and benign",
    "huggingface.co/datasets/LLM-LAT/harmful-dataset; Sheshadri et al. 2024, arXiv 2407.15549",
    UNSTATED,
    {
        "harmful": Split(_harmful, 4948, HARM, files=(HARMFUL,)),
        "benign": Split(_benign, None, NORMAL, files=(BENIGN,)),
    },
)
