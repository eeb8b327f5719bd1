"""HADES (Li et al. 2024, arXiv 2403.09792): 750 instructions whose harmful words stand in an amplified picture.

The instruction that is put to the model names no harm: the keyword is replaced by a pointer to the picture, as in the
authors' evaluation ("the object in the image", "conduct the behavior in the image on").
"""

import io
from collections.abc import Mapping
from functools import partial
from typing import Any

from PIL import Image, UnidentifiedImageError

from unsay.data.sources.published import hub
from unsay.data.sources.reading import parquet_rows, text_field
from unsay.errors import UserError
from unsay.records import Kind, Modality
from unsay.suites.base import Suite
from unsay.suites.listing import Item, listed

DATASET = "Monosail/HADES"
FILE = hub("hades/test-00000-of-00001.parquet", DATASET, "data/test-00000-of-00001.parquet")
COLUMNS = ("instruction", "image", "category", "keywords", "scenario")


def items() -> list[Item]:
    """The instructions, by scenario.

    Raises:
        UserError: the file cannot be had or is malformed, or pyarrow is not installed.
    """
    path = FILE.find()
    found = []
    for number, row in enumerate(parquet_rows(path, COLUMNS), start=1):
        text = {name: text_field(row[name], path, f"row {number}: {name}") for name in COLUMNS if name != "image"}
        picture = row["image"]
        if not isinstance(picture, Mapping) or not isinstance(picture.get("bytes"), bytes):
            raise UserError(f"{path}: row {number}: image: bytes were expected")
        found.append(
            Item(
                text=text["instruction"].replace(text["keywords"], pointer(text["category"])),
                request=text["instruction"],
                category=text["scenario"],
                draw=partial(opened, picture, f"{path}: row {number}"),
                key=str(number),
            )
        )
    return found


def pointer(category: str) -> str:
    """What stands in the text for the word that is in the picture."""
    return "conduct the behavior in the image on" if category == "behavior" else f"the {category} in the image"


def opened(picture: Mapping[str, Any], where: str) -> Image.Image:
    """The picture of a parquet cell, in RGB.

    Raises:
        UserError: its bytes are no picture.
    """
    try:
        return Image.open(io.BytesIO(picture["bytes"])).convert("RGB")
    except (UnidentifiedImageError, OSError):
        raise UserError(f"{where}: image: not a picture that can be read") from None


SUITE: Suite = Suite(
    name="hades",
    title="HADES",
    kind=Kind.ATTACK,
    modality=Modality.IMAGE,
    source=f"HADES, huggingface.co/datasets/{DATASET}",
    licence="none stated",
    prompts=lambda setting: listed(SUITE, items(), setting),
    files=(FILE,),
)
