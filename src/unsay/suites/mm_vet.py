"""MM-Vet (Yu et al. 2023, arXiv 2308.02490): 218 questions that need several abilities, graded by a judge model.

The judge gives each answer a score from 0 to 1 against the reference, as in the official evaluation; its instructions
are in our own words, so numbers compare with each other and not with published ones.
"""

from functools import partial

from unsay.data.published import Pictures, Published, json_object
from unsay.records import Kind, Modality
from unsay.suites.base import Grade, Item, Suite
from unsay.suites.scorers import ask_score, read_score

HOW = "mm-vet.zip of github.com/yuweihao/MM-Vet (release v1), unpacked"
FILE = Published("mm-vet/mm-vet.json", HOW)
PICTURES = Pictures("mm-vet/images", HOW)


def _items() -> list[Item]:
    """The questions, by the abilities they need."""
    items = []
    for number, row in json_object(FILE.find()).items():
        if not isinstance(row.get("capability"), list):
            raise row.error("capability: a list was expected")
        items.append(
            Item(
                row.text("question"),
                category=", ".join(sorted(map(str, row["capability"]))),
                image=partial(PICTURES.picture, row.text("imagename")),
                label=number,
                reference=row.text("answer"),
            )
        )
    return items


SUITE = Suite(
    name="mm-vet",
    title="MM-Vet, graded",
    kind=Kind.UTILITY,
    modality=Modality.IMAGE,
    source="MM-Vet, github.com/yuweihao/MM-Vet",
    licence="Apache-2.0",
    items=_items,
    size=218,
    grade=Grade(ask_score, read_score),
    files=(FILE, PICTURES),
)
