"""SIUO (Wang et al. 2024, arXiv 2406.15279): safe words and a safe picture that together ask for something unsafe."""

from functools import partial

from unsay.assets import Hub, Source
from unsay.data.sources.published import Pictures, hub, json_list, text_field
from unsay.records import Kind, Modality
from unsay.suites.base import Suite
from unsay.suites.listing import Item, listed

DATASET, REVISION = "sinwang/SIUO", "024e80a01795376b9fed12f8073a12f2275f22ee"
FILE = hub("siuo/siuo_gen.json", DATASET, "siuo_gen.json", REVISION)


def _picture(name: str) -> Source:
    return Hub(DATASET, REVISION, f"images/{name}")


PICTURES = Pictures("siuo/images", f"`images` of huggingface.co/datasets/{DATASET}", _picture)


def items() -> list[Item]:
    """The 167 questions with their pictures.

    Raises:
        UserError: a file cannot be had, or is malformed.
    """
    path = FILE.find()
    return [
        Item(
            text=text_field(row.get("question"), path, f"entry {number}: question"),
            category=text_field(row.get("category"), path, f"entry {number}: category"),
            image=partial(PICTURES.picture, text_field(row.get("image"), path, f"entry {number}: image")),
            label=str(row.get("image")),
        )
        for number, row in enumerate(json_list(path), start=1)
    ]


SUITE: Suite = Suite(
    name="siuo",
    title="SIUO",
    kind=Kind.ATTACK,
    modality=Modality.IMAGE,
    source=f"SIUO, huggingface.co/datasets/{DATASET}",
    licence="CC BY-NC 4.0",
    prompts=lambda setting: listed(SUITE, items(), setting),
    size=167,
    harm_in_picture=True,
    files=(FILE, PICTURES),
)
