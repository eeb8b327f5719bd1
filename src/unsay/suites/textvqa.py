"""TextVQA's validation half (Singh et al. 2019, arXiv 1904.08920): questions about words in pictures."""

from functools import partial

from unsay.assets import Url
from unsay.data.sources.published import Pictures, Published
from unsay.data.sources.reading import text_field
from unsay.errors import UserError
from unsay.files import read_json
from unsay.records import Kind, Modality
from unsay.suites import vqa_accuracy
from unsay.suites.base import Measure, Suite
from unsay.suites.listing import Item, listed
from unsay.suites.vqav2 import SHORT

ADDRESS = "https://dl.fbaipublicfiles.com/textvqa/data/TextVQA_0.5.1_val.json"
FILE = Published(
    "textvqa/TextVQA_0.5.1_val.json",
    ADDRESS,
    Url(ADDRESS),
    floating="its address names a version (0.5.1); no hash is known here",
)
PICTURES = Pictures("textvqa/train_images", "dl.fbaipublicfiles.com/textvqa/images/train_val_images.zip, unpacked")


def items() -> list[Item]:
    """The 5,000 questions.

    Raises:
        UserError: a file is not here, or is malformed.
    """
    path = FILE.find()
    content = read_json(path)
    rows = content.get("data") if isinstance(content, dict) else None
    if not isinstance(rows, list):
        raise UserError(f"{path}: data: a list was expected")
    found = []
    for number, row in enumerate(rows, start=1):
        if not isinstance(row, dict) or not isinstance(row.get("answers"), list):
            raise UserError(f"{path}: entry {number}: answers: a list was expected")
        picture = text_field(row.get("image_id"), path, f"entry {number}: image_id")
        question = text_field(row.get("question"), path, f"entry {number}: question")
        found.append(
            Item(
                text=f"{question}\n{SHORT}",
                image=partial(PICTURES.picture, f"{picture}.jpg"),
                label=str(row.get("question_id")),
                cluster=picture,
                answers=tuple(map(str, row["answers"])),
            )
        )
    return found


SUITE: Suite = Suite(
    name="textvqa",
    title="TextVQA accuracy",
    kind=Kind.UTILITY,
    modality=Modality.IMAGE,
    source="TextVQA 0.5.1 validation, textvqa.org",
    licence="CC BY 4.0",
    prompts=lambda setting: listed(SUITE, items(), setting),
    size=5000,
    measure=Measure(vqa_accuracy.measured_spoken),
    files=(FILE, PICTURES),
)
