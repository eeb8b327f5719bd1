"""LLaVA-Bench in the wild (Liu et al. 2023, arXiv 2304.08485): 60 open questions, rated by a judge model.

As in the official evaluation the judge reads a description of the picture, GPT-4's reference answer and the model's
answer, and gives both from 1 to 10; the score is the model's ratings ÷ the reference's, in per cent. The judge's
instructions are in our own words, so numbers compare with each other and not with published ones.
"""

from functools import partial

from unsay.data.published import Published, hub, hub_pictures, json_lines
from unsay.records import Kind, Modality
from unsay.suites.base import Grade, Item, Suite
from unsay.suites.scorers import ask_pair, read_pair

DATASET, REVISION = "liuhaotian/llava-bench-in-the-wild", "9773b6fd2be88d4ced480dcd9bfd4ce76e47f79b"
QUESTIONS = hub("llava_bench/questions.jsonl", DATASET, "questions.jsonl", REVISION)
CONTEXT = hub("llava_bench/context.jsonl", DATASET, "context.jsonl", REVISION)
ANSWERS = hub("llava_bench/answers_gpt4.jsonl", DATASET, "answers_gpt4.jsonl", REVISION)
PICTURES = hub_pictures("llava_bench/images", DATASET, REVISION, "images")


def _items() -> list[Item]:
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
                image=partial(PICTURES.picture, picture),
                label=number,
                cluster=picture,
                reference=references[number],
                answers=(captions[picture],),
            )
        )
    return items


def _column(file: Published, key: str, value: str) -> dict[str, str]:
    return {str(row.get(key)): row.text(value) for row in json_lines(file.find())}


SUITE = Suite(
    name="llava-bench",
    title="LLaVA-Bench, rated",
    kind=Kind.UTILITY,
    modality=Modality.IMAGE,
    source=f"LLaVA-Bench, huggingface.co/datasets/{DATASET}",
    licence="CC BY-NC 4.0",
    items=_items,
    size=60,
    by_category=True,
    grade=Grade(ask_pair, read_pair, unit="% of the reference"),
    files=(QUESTIONS, CONTEXT, ANSWERS, PICTURES),
)
