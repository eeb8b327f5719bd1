"""MOSSBench (Li et al. 2024, arXiv 2406.17806): 300 harmless pairs of words and picture that models refuse."""

from functools import partial

from unsay.assets import Source, Url
from unsay.data.sources.published import Pictures, github, text_field
from unsay.errors import UserError
from unsay.files import read_json
from unsay.records import Kind, Modality
from unsay.suites.base import Suite
from unsay.suites.listing import Item, listed

REPOSITORY, COMMIT = "xirui-li/MOSSBench", "8d68b0614b39d8990a508e03d99975832f399db2"
FILE = github("mossbench/information.json", REPOSITORY, COMMIT, "data/images_information/information.json")


def _picture(name: str) -> Source:
    return Url(f"https://raw.githubusercontent.com/{REPOSITORY}/{COMMIT}/data/images/{name}")


PICTURES = Pictures("mossbench/images", f"`data/images` of github.com/{REPOSITORY}", _picture)


def items() -> list[Item]:
    """The queries, by the kind of oversensitivity that they provoke.

    Raises:
        UserError: a file cannot be had, or is malformed.
    """
    path = FILE.find()
    rows = read_json(path)
    if not isinstance(rows, dict):
        raise UserError(f"{path}: an object was expected")
    found = []
    for number, row in rows.items():
        about = row.get("metadata") if isinstance(row, dict) else None
        if not isinstance(about, dict):
            raise UserError(f"{path}: {number}: metadata: an object was expected")
        picture = text_field(row.get("image"), path, f"{number}: image")
        found.append(
            Item(
                text=text_field(row.get("question"), path, f"{number}: question"),
                category=text_field(about.get("over"), path, f"{number}: over"),
                image=partial(PICTURES.picture, picture.removeprefix("images/")),
                label=picture,
            )
        )
    return found


SUITE: Suite = Suite(
    name="mossbench",
    title="MOSSBench",
    kind=Kind.BENIGN,
    modality=Modality.IMAGE,
    source=f"MOSSBench, github.com/{REPOSITORY}",
    licence="CC BY-SA 4.0",
    prompts=lambda setting: listed(SUITE, items(), setting),
    size=300,
    files=(FILE, PICTURES),
)
