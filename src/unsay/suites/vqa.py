"""VQAv2 (Goyal et al. 2017, arXiv 1612.00837) and TextVQA (Singh et al. 2019, arXiv 1904.08920).

VQAv2's validation half (Goyal et al. 2017, arXiv 1612.00837), by VQA accuracy over ten annotators.

COCO's validation pictures of 2014, which VQAv2 and POPE ask about.

TextVQA's validation half (Singh et al. 2019, arXiv 1904.08920): questions about words in pictures.
"""

from functools import partial
from typing import Any

from unsay.assets import Source, Url
from unsay.data.sources.published import Pictures, Published, text_field
from unsay.errors import UserError
from unsay.files import read_json
from unsay.records import Kind, Modality
from unsay.suites import scorers
from unsay.suites.base import Measure, Suite
from unsay.suites.listing import Item, listed


def _picture(name: str) -> Source:
    return Url(f"http://images.cocodataset.org/val2014/{name}")


VAL2014 = Pictures(
    "coco/val2014", "val2014.zip of cocodataset.org, unpacked", _picture, "they are fetched by name, without hashes"
)


HOW = "v2_Questions_Val_mscoco.zip and v2_Annotations_Val_mscoco.zip of visualqa.org, unpacked"
QUESTIONS = Published("vqav2/v2_OpenEnded_mscoco_val2014_questions.json", HOW)
ANNOTATIONS = Published("vqav2/v2_mscoco_val2014_annotations.json", HOW)
SHORT = "Answer the question using a single word or phrase."


def vqav2_items() -> list[Item]:
    """The questions, by answer type; questions about one picture are one cluster.

    Raises:
        UserError: a file is not here, or is malformed.
    """
    answered = {row.get("question_id"): row for row in _entries(ANNOTATIONS, "annotations")}
    path = QUESTIONS.find()
    found = []
    for number, row in enumerate(_entries(QUESTIONS, "questions"), start=1):
        known = answered.get(row.get("question_id"))
        if known is None or not isinstance(row.get("image_id"), int):
            raise UserError(f"{path}: question {number}: no annotation, or no image_id")
        said = known.get("answers")
        if not isinstance(said, list) or not said:
            raise UserError(f"{ANNOTATIONS.find()}: question {row.get('question_id')}: answers: a list was expected")
        picture = f"COCO_val2014_{row['image_id']:012d}.jpg"
        question = text_field(row.get("question"), path, f"question {number}: question")
        found.append(
            Item(
                text=f"{question}\n{SHORT}",
                category=known.get("answer_type"),
                image=partial(VAL2014.picture, picture),
                label=str(row.get("question_id")),
                cluster=picture,
                reference=known.get("multiple_choice_answer"),
                answers=tuple(str(person.get("answer")) for person in said),
            )
        )
    return found


def _entries(file: Published, name: str) -> list[dict[str, Any]]:
    path = file.find()
    content = read_json(path)
    rows = content.get(name) if isinstance(content, dict) else None
    if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
        raise UserError(f"{path}: {name}: a list of objects was expected")
    return rows


VQAV2: Suite = Suite(
    name="vqav2",
    title="VQAv2 accuracy",
    kind=Kind.UTILITY,
    modality=Modality.IMAGE,
    source="VQAv2 validation, visualqa.org",
    licence="CC BY 4.0",
    prompts=lambda setting: listed(VQAV2, vqav2_items(), setting),
    size=214_354,
    by_category=True,
    measure=Measure(scorers.measured),
    files=(QUESTIONS, ANNOTATIONS, VAL2014),
)


ADDRESS = "https://dl.fbaipublicfiles.com/textvqa/data/TextVQA_0.5.1_val.json"
FILE = Published(
    "textvqa/TextVQA_0.5.1_val.json",
    ADDRESS,
    Url(ADDRESS),
    floating="its address names a version (0.5.1); no hash is known here",
)
PICTURES = Pictures("textvqa/train_images", "dl.fbaipublicfiles.com/textvqa/images/train_val_images.zip, unpacked")


def textvqa_items() -> list[Item]:
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


TEXTVQA: Suite = Suite(
    name="textvqa",
    title="TextVQA accuracy",
    kind=Kind.UTILITY,
    modality=Modality.IMAGE,
    source="TextVQA 0.5.1 validation, textvqa.org",
    licence="CC BY 4.0",
    prompts=lambda setting: listed(TEXTVQA, textvqa_items(), setting),
    size=5000,
    measure=Measure(scorers.measured_spoken),
    files=(FILE, PICTURES),
)
