"""VLGuard's test half (Zong et al. 2024, arXiv 2402.02207): unsafe pictures, and safe ones with both sorts of words."""

from functools import partial

from unsay.data.sources.vlguard import (
    SAFE,
    TEST,
    TEST_PICTURES,
    UNSAFE_PICTURE,
    UNSAFE_WORDS,
    instructions,
)
from unsay.records import Kind, Modality
from unsay.suites.base import Item, Suite


def _items(field: str) -> list[Item]:
    """The instructions under this field."""
    return [
        Item(
            each.words.text(field),
            category=each.category,
            image=partial(TEST_PICTURES.picture, each.picture),
            label=each.picture,
        )
        for each in instructions(TEST, field)
    ]


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
        files=(TEST, TEST_PICTURES),
    )


SUITES = (
    _suite("vlguard-unsafe-image", "VLGuard, unsafe pictures", Kind.ATTACK, UNSAFE_PICTURE, 442),
    _suite("vlguard-unsafe-words", "VLGuard, safe pictures, unsafe words", Kind.ATTACK, UNSAFE_WORDS, 558),
    _suite("vlguard-safe", "VLGuard safe pairs", Kind.BENIGN, SAFE, 558),
)
