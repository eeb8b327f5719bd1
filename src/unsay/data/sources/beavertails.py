"""BeaverTails-30k (Ji et al. 2023, arXiv 2307.04657): labelled answers to requests in 14 categories of harm.

Its prompts are not those of BeaverTails-Evaluation, which is a suite with the same categories.
"""

from dataclasses import replace

from unsay.data.hub_sets import HubSet
from unsay.data.sources.licences import CC_BY_NC
from unsay.data.sources.source import HARM, Source, Split, merged
from unsay.records import SourceRow

TRAIN = HubSet(
    "beavertails_30k",
    "PKU-Alignment/BeaverTails",
    "round0/30k/train.jsonl.gz",
    "8401fe609d288129cc684a9b3be6a93e41cfe678",
    ("prompt", "response", "category", "is_safe"),
)
TEST = replace(TRAIN, files="round0/30k/test.jsonl.gz")


def _rows(files: HubSet) -> list[SourceRow]:
    """The requests with an unsafe answer; the category is the one that most of their unsafe answers have."""
    rows = []
    for row in files.rows():
        flags, safe = row.get("category"), row.get("is_safe")
        if not isinstance(flags, dict) or not isinstance(safe, bool):
            raise row.error("category and is_safe: categories with true or false were expected")
        answer = row.filled("response")
        named = [name for name, said in flags.items() if said and not safe and answer]
        rows += [
            SourceRow(
                text=row.text("prompt"),
                source="beavertails_30k",
                category=category,
                answers=answer if safe else (),
                harmful=() if safe else answer,
            )
            for category in named or [None]  # an answer counts for each of its categories
        ]
    return [row for row in merged(rows) if row.harmful]


SOURCE = Source(
    "beavertails_30k",
    "BeaverTails-30k",
    "huggingface.co/datasets/PKU-Alignment/BeaverTails; Ji et al. 2023, arXiv 2307.04657",
    CC_BY_NC,
    {
        "train": Split(lambda: _rows(TRAIN), None, HARM, files=(TRAIN,)),
        "test": Split(lambda: _rows(TEST), None, HARM, files=(TEST,)),
    },
    version=2,
)
