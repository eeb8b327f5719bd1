"""JailBreakV-28K (Luo et al. 2024, arXiv 2404.03027), its mini part of 280, and its questions, RedTeam-2K.

20,000 of its items are 5,000 jailbreak texts, each with a blank, a noise, a nature and a diffusion picture: pictures
that hold nothing, items that are not independent. Each item's group is its RedTeam-2K question and its image type is
named, so that reports count distinct texts, cluster by question and split by picture. Blank pictures, and noise and
nature, are conditions of their own: a rate is never pooled over them and the pictures that belong.
"""

from functools import partial
from pathlib import PurePosixPath

from unsay.data.published import Published
from unsay.data.sources.jailbreakv import DATASET, FOLDERS, MINI, PICTURES, QUESTIONS, WHOLE, attacks, questions
from unsay.records import Condition, Kind, Modality
from unsay.suites.base import Item, Suite

SAYS_NOTHING = {
    "llm_transfer_attack, blank": Condition.BLANK,
    "llm_transfer_attack, noise": Condition.UNRELATED,
    "llm_transfer_attack, nature": Condition.UNRELATED,
}
"""Types of picture that do not belong to their texts → the condition that they are."""


def _questions() -> list[Item]:
    """The questions of RedTeam-2K, by safety policy."""
    return [Item(row.text("question"), category=row.text("policy"), key=row["id"]) for row in questions()]


def _attacks(file: Published) -> list[Item]:
    """The rows of the whole set or of its mini part, by safety policy."""
    items = []
    for row in attacks(file):
        picture = row.text("image_path")
        image_type = _image_type(picture)
        items.append(
            Item(
                row.text("jailbreak_query"),
                request=row.text("redteam_query"),
                category=row.text("policy"),
                image=partial(PICTURES.picture, picture),
                image_type=image_type,
                condition=SAYS_NOTHING.get(image_type),
                key=row.text("id"),
            )
        )
    return items


def _image_type(path: str) -> str:
    """The kind of picture that a path names: its folder, and in two of them the prefix of its file name."""
    folder, name = PurePosixPath(path).parts[0], PurePosixPath(path).name
    prefix = name.split("_", 1)[0]
    return folder if folder == "figstep" or "_" not in name else f"{folder}, {prefix}"


def _suite(name: str, title: str, file: Published, size: int) -> Suite:
    return Suite(
        name=name,
        title=title,
        kind=Kind.ATTACK,
        modality=Modality.IMAGE,
        source=f"JailBreakV-28K, huggingface.co/datasets/{DATASET}",
        licence="MIT",
        items=partial(_attacks, file),
        size=size,
        files=(file, *FOLDERS),
    )


SUITE = _suite("jailbreakv-28k", "JailBreakV-28K", WHOLE, 28_000)
SMALL = _suite("jailbreakv-mini", "JailBreakV-28K mini", MINI, 280)
REDTEAM_2K = Suite(
    name="redteam-2k",
    title="RedTeam-2K",
    kind=Kind.ATTACK,
    modality=Modality.TEXT,
    source=f"RedTeam-2K, huggingface.co/datasets/{DATASET}",
    licence="MIT",
    items=_questions,
    size=2000,
    files=(QUESTIONS,),
)
