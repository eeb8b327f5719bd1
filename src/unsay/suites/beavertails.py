"""BeaverTails-Evaluation (Ji et al. 2023, arXiv 2307.04657): 700 prompts in 14 categories of harm.

Their data set on the hub holds the same rows compressed; the plain file is that of their evaluation suite.
"""

from unsay.data.sources.published import github
from unsay.data.sources.reading import json_list, text_field
from unsay.records import Kind, Modality
from unsay.suites.base import Suite
from unsay.suites.listing import Item, listed

REPOSITORY = "PKU-Alignment/align-anything"
FILE = github(
    "beavertails/BeaverTails-Evaluation.json",
    REPOSITORY,
    "3f9decc221be74b2052e712e3a32e155686ec6ec",
    "projects/eval-anything/eval_anything/benchmarks/safedata/BeaverTails-Evaluation.json",
    "568aac19f8615c78",
)


def items() -> list[Item]:
    """The prompts.

    Raises:
        UserError: the file cannot be had, or is malformed.
    """
    path = FILE.find()
    return [
        Item(
            text=text_field(row.get("prompt"), path, f"entry {number}: prompt"),
            category=text_field(row.get("category"), path, f"entry {number}: category"),
        )
        for number, row in enumerate(json_list(path), start=1)
    ]


SUITE: Suite = Suite(
    name="beavertails",
    title="BeaverTails-Evaluation",
    kind=Kind.ATTACK,
    modality=Modality.TEXT,
    source=f"BeaverTails-Evaluation, github.com/{REPOSITORY}",
    licence="CC BY-NC 4.0",
    prompts=lambda setting: listed(SUITE, items(), setting),
    size=700,
    files=(FILE,),
)
