"""VQAv2's validation half (Goyal et al. 2017, arXiv 1612.00837), by VQA accuracy over ten annotators."""

from functools import partial
from typing import Any

from unsay.data.sources.published import Published
from unsay.data.sources.reading import text_field
from unsay.errors import UserError
from unsay.files import read_json
from unsay.records import Kind, Modality
from unsay.suites import vqa_accuracy
from unsay.suites.base import Measure, Suite
from unsay.suites.coco import VAL2014
from unsay.suites.listing import Item, listed

HOW = "v2_Questions_Val_mscoco.zip and v2_Annotations_Val_mscoco.zip of visualqa.org, unpacked"
QUESTIONS = Published("vqav2/v2_OpenEnded_mscoco_val2014_questions.json", HOW)
ANNOTATIONS = Published("vqav2/v2_mscoco_val2014_annotations.json", HOW)
SHORT = "Answer the question using a single word or phrase."


def items() -> list[Item]:
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


SUITE: Suite = Suite(
    name="vqav2",
    title="VQAv2 accuracy",
    kind=Kind.UTILITY,
    modality=Modality.IMAGE,
    source="VQAv2 validation, visualqa.org",
    licence="CC BY 4.0",
    prompts=lambda setting: listed(SUITE, items(), setting),
    size=214_354,
    by_category=True,
    measure=Measure(vqa_accuracy.measured),
    files=(QUESTIONS, ANNOTATIONS, VAL2014),
)
