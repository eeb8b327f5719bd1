"""Open questions about pictures, graded by a judge model: LLaVA-Bench in the wild and MM-Vet.

LLaVA-Bench (Liu et al. 2023, arXiv 2304.08485) has 60 questions. As in the official evaluation the judge reads a
description of the picture, GPT-4's reference answer and the model's answer, and gives both from 1 to 10; the score is
the model's ratings ÷ the reference's, in per cent.

MM-Vet (Yu et al. 2023, arXiv 2308.02490) has 218 questions that need several abilities. As in the official evaluation
the judge gives each answer a score from 0 to 1 against the reference.

The judge's instructions are in our own words, so numbers compare with each other and not with published ones.
"""

from functools import partial

from unsay.data.published import Pictures, Published, hub, hub_pictures, json_lines, json_object
from unsay.records import Kind, Modality
from unsay.suites.base import Grade, Item, Suite
from unsay.suites.scorers import ask_pair, ask_score, read_pair, read_score

DATASET, REVISION = "liuhaotian/llava-bench-in-the-wild", "9773b6fd2be88d4ced480dcd9bfd4ce76e47f79b"
QUESTIONS = hub("llava_bench/questions.jsonl", DATASET, "questions.jsonl", REVISION)
CONTEXT = hub("llava_bench/context.jsonl", DATASET, "context.jsonl", REVISION)
ANSWERS = hub("llava_bench/answers_gpt4.jsonl", DATASET, "answers_gpt4.jsonl", REVISION)
LLAVA_PICTURES = hub_pictures("llava_bench/images", DATASET, REVISION, "images")

MM_VET_ARCHIVE = "mm-vet.zip of github.com/yuweihao/MM-Vet (release v1), unpacked"
MM_VET_FILE = Published("mm-vet/mm-vet.json", MM_VET_ARCHIVE)
MM_VET_PICTURES = Pictures("mm-vet/images", MM_VET_ARCHIVE)


def _llava_bench() -> list[Item]:
    """The questions by category: conversation, detail, complex reasoning."""
    captions = _column(CONTEXT, "image", "caption")
    references = _column(ANSWERS, "question_id", "text")
    items = []
    for row in json_lines(QUESTIONS.find()):
        picture, number = row.text("image"), str(row.get("question_id"))
        if picture not in captions or number not in references:
            raise row.error("no caption of its picture, or no reference answer")
        items.append(
            Item(
                row.text("text"),
                category=row.text("category"),
                image=partial(LLAVA_PICTURES.picture, picture),
                label=number,
                cluster=picture,
                reference=references[number],
                answers=(captions[picture],),
            )
        )
    return items


def _column(file: Published, key: str, value: str) -> dict[str, str]:
    return {str(row.get(key)): row.text(value) for row in json_lines(file.find())}


def _mm_vet() -> list[Item]:
    """The questions, by the abilities they need."""
    items = []
    for number, row in json_object(MM_VET_FILE.find()).items():
        if not isinstance(row.get("capability"), list):
            raise row.error("capability: a list was expected")
        items.append(
            Item(
                row.text("question"),
                category=", ".join(sorted(map(str, row["capability"]))),
                image=partial(MM_VET_PICTURES.picture, row.text("imagename")),
                label=number,
                reference=row.text("answer"),
            )
        )
    return items


LLAVA_BENCH = Suite(
    name="llava-bench",
    title="LLaVA-Bench, rated",
    kind=Kind.UTILITY,
    modality=Modality.IMAGE,
    source=f"LLaVA-Bench, huggingface.co/datasets/{DATASET}",
    licence="CC BY-NC 4.0",
    items=_llava_bench,
    size=60,
    by_category=True,
    grade=Grade(ask_pair, read_pair, unit="% of the reference"),
    files=(QUESTIONS, CONTEXT, ANSWERS, LLAVA_PICTURES),
)
MM_VET = Suite(
    name="mm-vet",
    title="MM-Vet, graded",
    kind=Kind.UTILITY,
    modality=Modality.IMAGE,
    source="MM-Vet, github.com/yuweihao/MM-Vet",
    licence="Apache-2.0",
    items=_mm_vet,
    size=218,
    grade=Grade(ask_score, read_score),
    files=(MM_VET_FILE, MM_VET_PICTURES),
)
