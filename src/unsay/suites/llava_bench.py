"""LLaVA-Bench in the wild (Liu et al. 2023, arXiv 2304.08485): 60 open questions, rated by a judge model.

As in the official evaluation the judge reads a description of the picture, GPT-4's reference answer and the model's
answer, and gives both from 1 to 10; the score is the model's ratings ÷ the reference's, in per cent. The judge's
instructions are in our own words, so numbers compare with each other and not with published ones.
"""

from functools import partial

from unsay.assets import Hub, Source
from unsay.data.sources.published import Pictures, Published, hub, json_lines, text_field
from unsay.errors import UserError
from unsay.records import Kind, Modality
from unsay.suites.base import Grade, Suite
from unsay.suites.listing import Item, listed
from unsay.suites.scorers import ask_pair, read_pair

DATASET, REVISION = "liuhaotian/llava-bench-in-the-wild", "9773b6fd2be88d4ced480dcd9bfd4ce76e47f79b"
QUESTIONS = hub("llava_bench/questions.jsonl", DATASET, "questions.jsonl", REVISION)
CONTEXT = hub("llava_bench/context.jsonl", DATASET, "context.jsonl", REVISION)
ANSWERS = hub("llava_bench/answers_gpt4.jsonl", DATASET, "answers_gpt4.jsonl", REVISION)


def _picture(name: str) -> Source:
    return Hub(DATASET, REVISION, f"images/{name}")


PICTURES = Pictures("llava_bench/images", f"`images` of huggingface.co/datasets/{DATASET}", _picture)


def items() -> list[Item]:
    """The questions by category: conversation, detail, complex reasoning.

    Raises:
        UserError: a file is not here, or is malformed.
    """
    captions = _by(CONTEXT, "image", "caption")
    references = _by(ANSWERS, "question_id", "text")
    path = QUESTIONS.find()
    found = []
    for line, row in json_lines(path):
        picture, number = text_field(row.get("image"), path, "image", line), str(row.get("question_id"))
        if picture not in captions or number not in references:
            raise UserError(f"{path}:{line}: no caption of its picture, or no reference answer")
        found.append(
            Item(
                text=text_field(row.get("text"), path, "text", line),
                category=text_field(row.get("category"), path, "category", line),
                image=partial(PICTURES.picture, picture),
                label=number,
                cluster=picture,
                reference=references[number],
                answers=(captions[picture],),
            )
        )
    return found


def _by(file: Published, key: str, value: str) -> dict[str, str]:
    path = file.find()
    return {str(row.get(key)): text_field(row.get(value), path, value, line) for line, row in json_lines(path)}


SUITE: Suite = Suite(
    name="llava-bench",
    title="LLaVA-Bench, rated",
    kind=Kind.UTILITY,
    modality=Modality.IMAGE,
    source=f"LLaVA-Bench, huggingface.co/datasets/{DATASET}",
    licence="CC BY-NC 4.0",
    prompts=lambda setting: listed(SUITE, items(), setting),
    size=60,
    by_category=True,
    grade=Grade(ask_pair, read_pair, unit="% of the reference"),
    files=(QUESTIONS, CONTEXT, ANSWERS, PICTURES),
)
