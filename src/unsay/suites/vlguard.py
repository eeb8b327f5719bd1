"""VLGuard's test half (Zong et al. 2024, arXiv 2402.02207): unsafe pictures, and safe ones with both sorts of words."""

from functools import partial

from unsay.data.sources.published import Pictures, Published, json_list, text_field
from unsay.errors import UserError
from unsay.records import Kind, Modality
from unsay.suites.base import Suite
from unsay.suites.listing import Item, listed

HOW = "gated: accept the terms at huggingface.co/datasets/ys-zong/VLGuard, then take test.json and unpack test.zip"
FILE = Published("vlguard/test.json", HOW)
PICTURES = Pictures("vlguard/test", HOW)
UNSAFE_PICTURE, UNSAFE_WORDS, SAFE = "instruction", "unsafe_instruction", "safe_instruction"


def items(field: str) -> list[Item]:
    """The rows that have this field among their instructions: `instruction`, `unsafe_instruction`, `safe_instruction`.

    Raises:
        UserError: a file is not here, or is malformed.
    """
    path = FILE.find()
    found = []
    for number, row in enumerate(json_list(path), start=1):
        asked = row.get("instr-resp")
        if not isinstance(asked, list) or not all(isinstance(pair, dict) for pair in asked):
            raise UserError(f"{path}: entry {number}: instr-resp: a list of objects was expected")
        picture = text_field(row.get("image"), path, f"entry {number}: image")
        found += [
            Item(
                text=text_field(pair[field], path, f"entry {number}: {field}"),
                # The folder of a picture is what it shows.
                category=row.get("harmful_category") or picture.split("/")[0],
                image=partial(PICTURES.picture, picture),
                label=picture,
            )
            for pair in asked
            if field in pair
        ]
    return found


def _suite(name: str, title: str, kind: Kind, field: str, size: int) -> Suite:
    suite: Suite = Suite(
        name=name,
        title=title,
        kind=kind,
        modality=Modality.IMAGE,
        source="VLGuard test half, github.com/ys-zong/VLGuard",
        licence="research only",
        prompts=lambda setting: listed(suite, items(field), setting),
        size=size,
        harm_in_picture=field == UNSAFE_PICTURE,
        files=(FILE, PICTURES),
    )
    return suite


SUITES = (
    _suite("vlguard-unsafe-image", "VLGuard, unsafe pictures", Kind.ATTACK, UNSAFE_PICTURE, 442),
    _suite("vlguard-unsafe-words", "VLGuard, safe pictures, unsafe words", Kind.ATTACK, UNSAFE_WORDS, 558),
    _suite("vlguard-safe", "VLGuard safe pairs", Kind.BENIGN, SAFE, 558),
)
