"""SIUO (Wang et al. 2024, arXiv 2406.15279): safe words and a safe picture that together ask for something unsafe."""

from functools import partial

from unsay.data.published import hub, hub_pictures, json_list
from unsay.records import Kind, Modality
from unsay.suites.base import Item, Suite

DATASET, REVISION = "sinwang/SIUO", "024e80a01795376b9fed12f8073a12f2275f22ee"
FILE = hub("siuo/siuo_gen.json", DATASET, "siuo_gen.json", REVISION)
PICTURES = hub_pictures("siuo/images", DATASET, REVISION, "images")


def _items() -> list[Item]:
    return [
        Item(
            row.text("question"),
            category=row.text("category"),
            image=partial(PICTURES.picture, row.text("image")),
            label=row["image"],
        )
        for row in json_list(FILE.find())
    ]


SUITE = Suite(
    name="siuo",
    title="SIUO",
    kind=Kind.ATTACK,
    modality=Modality.IMAGE,
    source=f"SIUO, huggingface.co/datasets/{DATASET}",
    licence="CC BY-NC 4.0",
    items=_items,
    size=167,
    harm_in_picture=True,
    files=(FILE, PICTURES),
)
