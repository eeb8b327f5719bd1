"""MOSSBench (Li et al. 2024, arXiv 2406.17806): 300 harmless pairs of words and picture that models refuse."""

from functools import partial

from unsay.data.published import Row, github, github_pictures, json_object
from unsay.records import Kind, Modality
from unsay.suites.base import Item, Suite

REPOSITORY, COMMIT = "xirui-li/MOSSBench", "8d68b0614b39d8990a508e03d99975832f399db2"
FILE = github("mossbench/information.json", REPOSITORY, COMMIT, "data/images_information/information.json")
PICTURES = github_pictures("mossbench/images", REPOSITORY, COMMIT, "data/images")


def _items() -> list[Item]:
    """The queries, by the kind of oversensitivity that they provoke."""
    items = []
    for row in json_object(FILE.find()).values():
        if not isinstance(row.get("metadata"), dict):
            raise row.error("metadata: an object was expected")
        picture = row.text("image")
        items.append(
            Item(
                row.text("question"),
                category=Row(row["metadata"], row.where).text("over"),
                image=partial(PICTURES.picture, picture.removeprefix("images/")),
                label=picture,
            )
        )
    return items


SUITE = Suite(
    name="mossbench",
    title="MOSSBench",
    kind=Kind.BENIGN,
    modality=Modality.IMAGE,
    source=f"MOSSBench, github.com/{REPOSITORY}",
    licence="CC BY-SA 4.0",
    items=_items,
    size=300,
    files=(FILE, PICTURES),
    borderline=True,
)
