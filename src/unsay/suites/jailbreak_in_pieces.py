"""Jailbreak in Pieces (Shayegani et al. 2023, arXiv 2307.14539): a harmless text, the harm in an adversarial picture.

The authors publish the code that makes the pictures and no pictures of their own, so a set must be made: pictures in
`jailbreak_in_pieces/`, and `rows.jsonl` beside them with `{"prompt", "request", "image", "category", "image_type"}` in
each row. `request` says in words what prompt and picture ask together; the judge reads it.
"""

from functools import partial

from unsay.data.published import Pictures, Published, json_lines
from unsay.records import Kind, Modality
from unsay.suites.base import Item, Suite

HOW = "no data set is published: make pictures with github.com/erfanshayegani/Jailbreak-In-Pieces, see docs/suites.md"
FILE = Published("jailbreak_in_pieces/rows.jsonl", HOW)
PICTURES = Pictures("jailbreak_in_pieces", HOW)


def _items() -> list[Item]:
    return [
        Item(
            row.text("prompt"),
            request=row.text("request"),
            category=row.text("category"),
            image=partial(PICTURES.picture, row.text("image")),
            image_type=row.text("image_type"),
            key=row.text("image"),
        )
        for row in json_lines(FILE.find())
    ]


SUITE = Suite(
    name="jailbreak-in-pieces",
    title="Jailbreak in Pieces",
    kind=Kind.ATTACK,
    modality=Modality.IMAGE,
    source="pictures made with github.com/erfanshayegani/Jailbreak-In-Pieces",
    licence="none stated",
    items=_items,
    files=(FILE, PICTURES),
)
