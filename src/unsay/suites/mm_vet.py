"""MM-Vet (Yu et al. 2023, arXiv 2308.02490): 218 questions that need several abilities, graded by a judge model.

The judge gives each answer a score from 0 to 1 against the reference, as in the official evaluation; its instructions
are in our own words, so numbers compare with each other and not with published ones.
"""

from functools import partial

from unsay.data.sources.published import Pictures, Published, text_field
from unsay.errors import UserError
from unsay.files import read_json
from unsay.records import Kind, Modality
from unsay.suites.base import Grade, Suite
from unsay.suites.listing import Item, listed
from unsay.suites.scorers import ask_score, read_score

HOW = "mm-vet.zip of github.com/yuweihao/MM-Vet (release v1), unpacked"
FILE = Published("mm-vet/mm-vet.json", HOW)
PICTURES = Pictures("mm-vet/images", HOW)


def items() -> list[Item]:
    """The questions, by the abilities they need.

    Raises:
        UserError: a file is not here, or is malformed.
    """
    path = FILE.find()
    rows = read_json(path)
    if not isinstance(rows, dict):
        raise UserError(f"{path}: an object was expected")
    found = []
    for number, row in rows.items():
        if not isinstance(row, dict) or not isinstance(row.get("capability"), list):
            raise UserError(f"{path}: {number}: capability: a list was expected")
        found.append(
            Item(
                text=text_field(row.get("question"), path, f"{number}: question"),
                category=", ".join(sorted(map(str, row["capability"]))),
                image=partial(PICTURES.picture, text_field(row.get("imagename"), path, f"{number}: imagename")),
                label=str(number),
                reference=text_field(row.get("answer"), path, f"{number}: answer"),
            )
        )
    return found


SUITE: Suite = Suite(
    name="mm-vet",
    title="MM-Vet, graded",
    kind=Kind.UTILITY,
    modality=Modality.IMAGE,
    source="MM-Vet, github.com/yuweihao/MM-Vet",
    licence="Apache-2.0",
    prompts=lambda setting: listed(SUITE, items(), setting),
    size=218,
    grade=Grade(ask_score, read_score),
    files=(FILE, PICTURES),
)
