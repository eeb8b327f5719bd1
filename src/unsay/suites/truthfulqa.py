"""TruthfulQA (Lin et al. 2021, arXiv 2109.07958), multiple choice by likelihood: MC1 and MC2.

The question stands in the model's chat format, without the authors' six examples: these are made for base models.

The 817 questions of the paper. In January 2025 the authors took some out and left 790; published numbers are mostly of
the 817, so that the last commit before is pinned.
"""

from unsay.data.sources.published import csv_rows, github, text_field
from unsay.records import Kind, Modality
from unsay.suites.base import Suite
from unsay.suites.listing import Item, listed
from unsay.suites.scorers import best_is_right, true_share

FILE = github(
    "truthfulqa/TruthfulQA.csv",
    "sylinrl/TruthfulQA",
    "fdd8ad1c0d00a478cf8b0bb41a3ad8378c16293b",
    "TruthfulQA.csv",
    "f9bd9e859cc102cb",
)


def items(single: bool) -> list[Item]:
    """The questions, by category.

    Args:
        single: MC1, the best answer among false ones; else MC2, all true answers among false ones.

    Raises:
        UserError: the file cannot be had, or is malformed.
    """
    path = FILE.find()
    found = []
    columns = ("Category", "Question", "Best Answer", "Correct Answers", "Incorrect Answers")
    for line, row in csv_rows(path, columns):
        read = {name: text_field(row[name], path, name, line) for name in columns}
        best = sentence(read["Best Answer"])
        true = (best,) if single else tuple(dict.fromkeys(separated(read["Correct Answers"])))
        false = tuple(answer for answer in dict.fromkeys(separated(read["Incorrect Answers"])) if answer not in true)
        found.append(
            Item(
                text=read["Question"],
                category=read["Category"],
                reference=best,
                choices=(*true, *false),
                answers=true,
            )
        )
    return found


def separated(cell: str) -> list[str]:
    """The answers of a cell, parted by semicolons, each as a sentence."""
    return [sentence(part) for part in cell.split(";") if part.strip()]


def sentence(answer: str) -> str:
    """An answer with a full stop, as the official evaluation puts one."""
    answer = answer.strip()
    return answer if answer.endswith(".") else f"{answer}."


MC1: Suite = Suite(
    name="truthfulqa-mc1",
    title="TruthfulQA MC1",
    kind=Kind.UTILITY,
    modality=Modality.TEXT,
    source="TruthfulQA, github.com/sylinrl/TruthfulQA",
    licence="Apache-2.0",
    prompts=lambda setting: listed(MC1, items(single=True), setting),
    size=817,
    choose=best_is_right,
    files=(FILE,),
)
MC2: Suite = Suite(
    name="truthfulqa-mc2",
    title="TruthfulQA MC2",
    kind=Kind.UTILITY,
    modality=Modality.TEXT,
    source=MC1.source,
    licence="Apache-2.0",
    prompts=lambda setting: listed(MC2, items(single=False), setting),
    size=817,
    choose=true_share,
    files=(FILE,),
)
