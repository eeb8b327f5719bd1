"""Jailbreak in Pieces (Shayegani et al. 2023, arXiv 2307.14539): a harmless text, the harm in an adversarial picture.

The authors publish the code that makes the pictures and no pictures of their own, so a set must be made: pictures in
`jailbreak_in_pieces/`, and `rows.jsonl` beside them with `{"prompt", "request", "image", "category", "image_type"}` in
each row. `request` says in words what prompt and picture ask together; the judge reads it.
"""

from functools import partial

from unsay.data.sources.published import Pictures, Published, json_lines, text_field
from unsay.records import Kind, Modality
from unsay.suites.base import Suite
from unsay.suites.listing import Item, listed

HOW = "no data set is published: make pictures with github.com/erfanshayegani/Jailbreak-In-Pieces, see docs/suites.md"
FILE = Published("jailbreak_in_pieces/rows.jsonl", HOW)
PICTURES = Pictures("jailbreak_in_pieces", HOW)


def items() -> list[Item]:
    """The rows with their pictures.

    Raises:
        UserError: a file is not here, or is malformed.
    """
    path = FILE.find()
    found = []
    for line, row in json_lines(path):
        read = {
            name: text_field(row.get(name), path, name, line)
            for name in ("prompt", "request", "image", "category", "image_type")
        }
        found.append(
            Item(
                text=read["prompt"],
                request=read["request"],
                category=read["category"],
                image=partial(PICTURES.picture, read["image"]),
                image_type=read["image_type"],
                key=read["image"],
            )
        )
    return found


SUITE: Suite = Suite(
    name="jailbreak-in-pieces",
    title="Jailbreak in Pieces",
    kind=Kind.ATTACK,
    modality=Modality.IMAGE,
    source="pictures made with github.com/erfanshayegani/Jailbreak-In-Pieces",
    licence="none stated",
    prompts=lambda setting: listed(SUITE, items(), setting),
    files=(FILE, PICTURES),
)
