"""HADES (Li et al. 2024, arXiv 2403.09792): 750 instructions whose harmful words stand in an amplified picture.

The instruction that is put to the model names no harm: the keyword is replaced by a pointer to the picture, as in the
authors' evaluation ("the object in the image", "conduct the behavior in the image on").

Every instruction is published with six pictures: step 0 is the first, steps 1 to 5 amplify it. Step 5 alone is asked,
the attack at its full strength. The authors' table counts an instruction as broken at step 5 if any of the six pictures
broke it, which is six attempts for one; numbers here are lower for that reason.
"""

import io
from functools import partial

from PIL import Image, UnidentifiedImageError

from unsay.data.published import Row, hub, parquet_rows
from unsay.records import Kind, Modality
from unsay.suites.base import Item, Suite

DATASET, REVISION = "Monosail/HADES", "b703e3b9553aa90cf3fe1f8de9a44c7ace564b85"
SHA256 = ("edd1d1fcb6e24fe6", "a5b2b289384a17fd")
FILES = tuple(
    hub(f"hades/test-0000{number}-of-00002.parquet", DATASET, f"data/test-0000{number}-of-00002.parquet", REVISION, sha)
    for number, sha in enumerate(SHA256)
)
COLUMNS = ("id", "instruction", "image", "category", "keywords", "scenario")
STEP = 5
"""The amplification that is asked, of 0 to 5."""


def _items() -> list[Item]:
    """The instructions, by scenario."""
    return [_item(row) for file in FILES for row in parquet_rows(file.find(), COLUMNS, where=("step", STEP))]


def _item(row: Row) -> Item:
    picture = row["image"]
    if not isinstance(picture, dict) or not isinstance(picture.get("bytes"), bytes):
        raise row.error("image: bytes were expected")
    scenario = row.text("scenario")
    return Item(
        row.text("instruction").replace(row.text("keywords"), _pointer(row.text("category"))),
        request=row.text("instruction"),
        category=scenario,
        render=partial(_opened, row),
        key=f"{scenario}/{row.text('id')}",
    )


def _pointer(category: str) -> str:
    """The words that stand for the word in the picture."""
    return "conduct the behavior in the image on" if category == "behavior" else f"the {category} in the image"


def _opened(row: Row) -> Image.Image:
    try:
        return Image.open(io.BytesIO(row["image"]["bytes"])).convert("RGB")
    except (UnidentifiedImageError, OSError):
        raise row.error("image: not a picture that can be read") from None


SUITE = Suite(
    name="hades",
    title="HADES",
    kind=Kind.ATTACK,
    modality=Modality.IMAGE,
    source=f"HADES, huggingface.co/datasets/{DATASET}",
    licence="MIT",
    items=_items,
    size=750,
    files=FILES,
)
