"""ScienceQA (Lu et al. 2022, arXiv 2209.09513), questions with a picture: the test half, and 250 of it in one file."""

import re
from functools import partial

from unsay.data.sources.published import Pictures, Published, text_field
from unsay.errors import UserError
from unsay.files import read_json
from unsay.records import Kind, Modality
from unsay.suites.base import Measure, Suite
from unsay.suites.listing import Item, listed
from unsay.suites.scorers import LETTERS, letter_is_right

HOW = "problems.json of github.com/lupantech/ScienceQA, and its test pictures unpacked to `scienceqa/test`"
PROBLEMS = Published("scienceqa/problems.json", HOW)
PICTURES = Pictures("scienceqa/test", HOW)
PART = Published(
    "scienceqa/scienceqa_250.json", "250 image questions of ScienceQA, as vendored by several repositories"
)
PART_PICTURES = Pictures("scienceqa/images", PART.how)
ASK = "Answer with the option's letter from the given choices directly."
_CHOICE = re.compile(r"\(([A-J])\) (.*?)(?=\s+\([A-J]\) |\s*$)")


def items() -> list[Item]:
    """The test questions that have a picture, by subject.

    Raises:
        UserError: a file is not here, or is malformed.
    """
    path = PROBLEMS.find()
    rows = read_json(path)
    if not isinstance(rows, dict):
        raise UserError(f"{path}: an object was expected")
    found = []
    for number, row in rows.items():
        if not isinstance(row, dict) or not isinstance(row.get("choices"), list):
            raise UserError(f"{path}: {number}: choices: a list was expected")
        if row.get("split") != "test" or not row.get("image"):
            continue
        right = row.get("answer")
        choices = tuple(map(str, row["choices"]))
        if not isinstance(right, int) or not 0 <= right < len(choices):
            raise UserError(f"{path}: {number}: answer: the number of a choice was expected")
        hint = str(row.get("hint") or "").strip()
        options = "\n".join(f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=False))
        question = text_field(row.get("question"), path, f"{number}: question")
        found.append(
            Item(
                text="\n".join(filter(None, (f"Context: {hint}" if hint else "", question, options, ASK))),
                category=row.get("subject"),
                image=partial(PICTURES.picture, f"{number}/{row['image']}"),
                label=str(number),
                reference=LETTERS[right],
                choices=choices,
            )
        )
    return found


def part_items() -> list[Item]:
    """The 250 questions, in the wording of their file.

    Raises:
        UserError: a file is not here, or is malformed.
    """
    path = PART.find()
    rows = read_json(path)
    if not isinstance(rows, dict):
        raise UserError(f"{path}: an object was expected")
    found = []
    for number, row in rows.items():
        if not isinstance(row, dict):
            raise UserError(f"{path}: {number}: an object was expected")
        prompt = text_field(row.get("prompt"), path, f"{number}: prompt")
        _, marker, listed_choices = prompt.partition("\nChoices: ")
        choices = tuple(choice for _, choice in _CHOICE.findall(listed_choices.partition("\nAnswer:")[0]))
        right = row.get("label")
        if not marker or not isinstance(right, str) or right not in LETTERS[: len(choices)]:
            raise UserError(f"{path}: {number}: its label is none of its choices")
        picture = text_field(row.get("image_path"), path, f"{number}: image_path")
        found.append(
            Item(
                text=f"{prompt.removesuffix('Answer:').rstrip()}\n{ASK}",
                image=partial(PART_PICTURES.picture, picture.removeprefix("images/")),
                label=number,
                reference=right,
                choices=choices,
            )
        )
    return found


SUITE: Suite = Suite(
    name="scienceqa",
    title="ScienceQA, picture questions",
    kind=Kind.UTILITY,
    modality=Modality.IMAGE,
    source="ScienceQA test, github.com/lupantech/ScienceQA",
    licence="CC BY-NC-SA 4.0",
    prompts=lambda setting: listed(SUITE, items(), setting),
    size=2017,
    by_category=True,
    measure=Measure(letter_is_right),
    files=(PROBLEMS, PICTURES),
)
SMALL: Suite = Suite(
    name="scienceqa-250",
    title="ScienceQA, 250 picture questions",
    kind=Kind.UTILITY,
    modality=Modality.IMAGE,
    source=SUITE.source,
    licence="CC BY-NC-SA 4.0",
    prompts=lambda setting: listed(SMALL, part_items(), setting),
    size=250,
    measure=Measure(letter_is_right),
    files=(PART, PART_PICTURES),
)
