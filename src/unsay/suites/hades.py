"""HADES (Li et al. 2024, arXiv 2403.09792): 750 instructions whose harmful words stand in an amplified picture.

The instruction that is put to the model names no harm: the keyword is replaced by a pointer to the picture, as in the
authors' evaluation ("the object in the image", "conduct the behavior in the image on").

Every instruction is published with six pictures: step 0 is the first, steps 1 to 5 amplify it. Step 5 alone is asked,
the attack at its full strength. The authors' table counts an instruction as broken at step 5 if any of the six pictures
broke it, which is six attempts for one; numbers here are lower for that reason.
"""

import io
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from PIL import Image, UnidentifiedImageError

from unsay.data.sources.published import hub, parquet_rows, text_field
from unsay.errors import UserError
from unsay.records import Kind, Modality
from unsay.suites.base import Suite
from unsay.suites.listing import Item, listed

DATASET, REVISION = "Monosail/HADES", "b703e3b9553aa90cf3fe1f8de9a44c7ace564b85"
SHA256 = ("edd1d1fcb6e24fe6", "a5b2b289384a17fd")
FILES = tuple(
    hub(f"hades/test-0000{number}-of-00002.parquet", DATASET, f"data/test-0000{number}-of-00002.parquet", REVISION, sha)
    for number, sha in enumerate(SHA256)
)
COLUMNS = ("id", "instruction", "image", "category", "keywords", "scenario")
STEP = 5
"""The amplification that is asked, of 0 to 5."""


def items() -> list[Item]:
    """The instructions, by scenario.

    Raises:
        UserError: a file cannot be had or is malformed, or pyarrow is not installed.
    """
    return [item for file in FILES for item in _of(file.find())]


def _of(path: Path) -> list[Item]:
    found = []
    for number, row in enumerate(parquet_rows(path, COLUMNS, where=("step", STEP)), start=1):
        text = {
            name: text_field(row[name], path, f"row {number} of step {STEP}: {name}")
            for name in COLUMNS
            if name != "image"
        }
        picture = row["image"]
        if not isinstance(picture, Mapping) or not isinstance(picture.get("bytes"), bytes):
            raise UserError(f"{path}: row {number} of step {STEP}: image: bytes were expected")
        found.append(
            Item(
                text=text["instruction"].replace(text["keywords"], pointer(text["category"])),
                request=text["instruction"],
                category=text["scenario"],
                draw=partial(opened, picture, f"{path}: row {number} of step {STEP}"),
                key=f"{text['scenario']}/{text['id']}",
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
    licence="MIT",
    prompts=lambda setting: listed(SUITE, items(), setting),
    size=750,
    files=FILES,
)
