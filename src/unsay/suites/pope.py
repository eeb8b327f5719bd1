"""POPE (Li et al. 2023, arXiv 2305.10355): is it in the picture? Half of what is asked about is not."""

from functools import partial

from unsay.data.sources.published import github, json_lines, text_field
from unsay.errors import UserError
from unsay.records import Kind, Modality
from unsay.suites import scorers
from unsay.suites.base import Measure, Suite
from unsay.suites.listing import Item, listed
from unsay.suites.vqa import VAL2014

REPOSITORY, COMMIT = "AoiDragon/POPE", "7ef3026faa9a89ed11fd508385fad652fdc6349f"
SPLITS = ("random", "popular", "adversarial")
SHA256 = ("412efc6fe25eb260", "eafca6ceff32c7bb", "cb8dec967727fbee")
FILES = tuple(
    github(f"pope/coco_pope_{split}.json", REPOSITORY, COMMIT, f"output/coco/coco_pope_{split}.json", sha256)
    for split, sha256 in zip(SPLITS, SHA256, strict=True)
)


def items() -> list[Item]:
    """The questions of the three samplings; a picture's questions are one cluster.

    Raises:
        UserError: a file cannot be had, or is malformed.
    """
    found = []
    for split, file in zip(SPLITS, FILES, strict=True):
        path = file.find()
        for line, row in json_lines(path):
            picture = text_field(row.get("image"), path, "image", line)
            if row.get("label") not in ("yes", "no"):
                raise UserError(f"{path}:{line}: label: yes or no was expected")
            found.append(
                Item(
                    text=text_field(row.get("text"), path, "text", line),
                    category=split,
                    image=partial(VAL2014.picture, picture),
                    label=f"{split}/{picture}",
                    cluster=picture,
                    reference=row["label"],
                )
            )
    return found


SUITE: Suite = Suite(
    name="pope",
    title="POPE accuracy",
    kind=Kind.UTILITY,
    modality=Modality.IMAGE,
    source=f"POPE on COCO, github.com/{REPOSITORY}",
    licence="MIT",
    prompts=lambda setting: listed(SUITE, items(), setting),
    size=9000,
    by_category=True,
    measure=Measure(
        scorers.pope_value,
        parts={
            "F1": scorers.f1,
            "precision": scorers.precision,
            "recall": scorers.recall,
            "yes ratio": scorers.yes_ratio,
            **{f"F1, {split}": partial(scorers.of_category, split, scorers.f1) for split in SPLITS},
        },
    ),
    files=(*FILES, VAL2014),
)
