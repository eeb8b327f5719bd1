"""VLGuard's test half (Zong et al. 2024, arXiv 2402.02207): unsafe pictures, and safe ones with both sorts of words."""

from functools import partial

from unsay.data.published import Pictures, Published, Row, json_list
from unsay.records import Kind, Modality
from unsay.suites.base import Item, Suite

HOW = "gated: accept the terms at huggingface.co/datasets/ys-zong/VLGuard, then take test.json and unpack test.zip"
FILE = Published("vlguard/test.json", HOW)
PICTURES = Pictures("vlguard/test", HOW)
UNSAFE_PICTURE, UNSAFE_WORDS, SAFE = "instruction", "unsafe_instruction", "safe_instruction"
"""Fields of a row's instructions."""


def _items(field: str) -> list[Item]:
    """The instructions under this field."""
    items = []
    for row in json_list(FILE.find()):
        pairs = row.get("instr-resp")
        if not isinstance(pairs, list) or not all(isinstance(pair, dict) for pair in pairs):
            raise row.error("instr-resp: a list of objects was expected")
        picture = row.text("image")
        items += [
            Item(
                Row(pair, row.where).text(field),
                category=row.get("harmful_category") or picture.split("/")[0],  # a picture's folder is what it shows
                image=partial(PICTURES.picture, picture),
                label=picture,
            )
            for pair in pairs
            if field in pair
        ]
    return items


def _suite(name: str, title: str, kind: Kind, field: str, size: int) -> Suite:
    return Suite(
        name=name,
        title=title,
        kind=kind,
        modality=Modality.IMAGE,
        source="VLGuard test half, github.com/ys-zong/VLGuard",
        licence="research only",
        items=partial(_items, field),
        size=size,
        harm_in_picture=field == UNSAFE_PICTURE,
        files=(FILE, PICTURES),
    )


SUITES = (
    _suite("vlguard-unsafe-image", "VLGuard, unsafe pictures", Kind.ATTACK, UNSAFE_PICTURE, 442),
    _suite("vlguard-unsafe-words", "VLGuard, safe pictures, unsafe words", Kind.ATTACK, UNSAFE_WORDS, 558),
    _suite("vlguard-safe", "VLGuard safe pairs", Kind.BENIGN, SAFE, 558),
)
