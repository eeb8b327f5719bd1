"""POPE (Li et al. 2023, arXiv 2305.10355): is it in the picture? Half of what is asked about is not."""

from functools import partial

from unsay.data.published import github, json_lines
from unsay.records import Kind, Modality
from unsay.suites import scorers
from unsay.suites.base import Item, Measure, Suite
from unsay.suites.vqa import VAL2014

REPOSITORY, COMMIT = "AoiDragon/POPE", "7ef3026faa9a89ed11fd508385fad652fdc6349f"
SHA256 = {"random": "412efc6fe25eb260", "popular": "eafca6ceff32c7bb", "adversarial": "cb8dec967727fbee"}
FILES = {
    split: github(f"pope/coco_pope_{split}.json", REPOSITORY, COMMIT, f"output/coco/coco_pope_{split}.json", sha256)
    for split, sha256 in SHA256.items()
}
"""Sampling of the objects that are not in the picture → file."""


def _items() -> list[Item]:
    """The questions of the three samplings; a picture's questions are one cluster."""
    items = []
    for split, file in FILES.items():
        for row in json_lines(file.find()):
            picture = row.text("image")
            if row.get("label") not in ("yes", "no"):
                raise row.error("label: yes or no was expected")
            items.append(
                Item(
                    row.text("text"),
                    category=split,
                    image=partial(VAL2014.picture, picture),
                    label=f"{split}/{picture}",
                    cluster=picture,
                    reference=row["label"],
                )
            )
    return items


SUITE = Suite(
    name="pope",
    title="POPE accuracy",
    kind=Kind.UTILITY,
    modality=Modality.IMAGE,
    source=f"POPE on COCO, github.com/{REPOSITORY}",
    licence="MIT",
    items=_items,
    size=9000,
    by_category=True,
    measure=Measure(
        scorers.pope_value,
        parts={
            "F1": scorers.f1,
            "precision": scorers.precision,
            "recall": scorers.recall,
            "yes ratio": scorers.yes_ratio,
            **{f"F1, {split}": partial(scorers.of_category, split, scorers.f1) for split in FILES},
        },
    ),
    files=(*FILES.values(), VAL2014),
)
