"""ScienceQA (Lu et al. 2022, arXiv 2209.09513), questions with a picture: the test half, and 250 of it in one file."""

import re
from functools import partial

from unsay.data.published import Pictures, Published, json_object
from unsay.records import Kind, Modality
from unsay.suites.base import Item, Measure, Suite
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


def _items() -> list[Item]:
    """The test questions that have a picture, by subject."""
    items = []
    for number, row in json_object(PROBLEMS.find()).items():
        if not isinstance(row.get("choices"), list):
            raise row.error("choices: a list was expected")
        if row.get("split") != "test" or not row.get("image"):
            continue
        right = row.get("answer")
        choices = tuple(map(str, row["choices"]))
        if not isinstance(right, int) or not 0 <= right < len(choices):
            raise row.error("answer: the number of a choice was expected")
        hint = str(row.get("hint") or "").strip()
        options = "\n".join(f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=False))
        items.append(
            Item(
                "\n".join(filter(None, (f"Context: {hint}" if hint else "", row.text("question"), options, ASK))),
                category=row.get("subject"),
                image=partial(PICTURES.picture, f"{number}/{row['image']}"),
                label=number,
                reference=LETTERS[right],
                choices=choices,
            )
        )
    return items


def _part() -> list[Item]:
    """The 250 questions, in the wording of their file."""
    items = []
    for number, row in json_object(PART.find()).items():
        prompt = row.text("prompt")
        _, marker, listed = prompt.partition("\nChoices: ")
        choices = tuple(choice for _, choice in _CHOICE.findall(listed.partition("\nAnswer:")[0]))
        right = row.get("label")
        if not marker or not isinstance(right, str) or right not in LETTERS[: len(choices)]:
            raise row.error("its label is none of its choices")
        items.append(
            Item(
                f"{prompt.removesuffix('Answer:').rstrip()}\n{ASK}",
                image=partial(PART_PICTURES.picture, row.text("image_path").removeprefix("images/")),
                label=number,
                reference=right,
                choices=choices,
            )
        )
    return items


SUITE = Suite(
    name="scienceqa",
    title="ScienceQA, picture questions",
    kind=Kind.UTILITY,
    modality=Modality.IMAGE,
    source="ScienceQA test, github.com/lupantech/ScienceQA",
    licence="CC BY-NC-SA 4.0",
    items=_items,
    size=2017,
    by_category=True,
    measure=Measure(letter_is_right),
    files=(PROBLEMS, PICTURES),
)
SMALL = Suite(
    name="scienceqa-250",
    title="ScienceQA, 250 picture questions",
    kind=Kind.UTILITY,
    modality=Modality.IMAGE,
    source=SUITE.source,
    licence="CC BY-NC-SA 4.0",
    items=_part,
    size=250,
    measure=Measure(letter_is_right),
    files=(PART, PART_PICTURES),
)
