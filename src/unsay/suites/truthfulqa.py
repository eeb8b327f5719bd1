"""TruthfulQA (Lin et al. 2021, arXiv 2109.07958), multiple choice by likelihood: MC1 and MC2.

The question stands in the model's chat format, without the authors' six examples: these are made for base models.

The 817 questions of the paper. In January 2025 the authors took some out and left 790; published numbers are mostly of
the 817, so that the last commit before is pinned.
"""

from functools import partial

from unsay.data.sources.truthfulqa import FILE, questions, sentence
from unsay.records import Kind, Modality
from unsay.suites.base import Item, Suite
from unsay.suites.scorers import best_is_right, true_share


def _items(single: bool) -> list[Item]:
    """The questions by category: MC1 with the best answer among false ones, or MC2 with all true answers."""
    items = []
    for row in questions():
        best = sentence(row.text("Best Answer"))
        true = (best,) if single else tuple(dict.fromkeys(_answers(row.text("Correct Answers"))))
        false = (answer for answer in dict.fromkeys(_answers(row.text("Incorrect Answers"))) if answer not in true)
        choices = (*true, *false)
        items.append(
            Item(row.text("Question"), category=row.text("Category"), reference=best, choices=choices, answers=true)
        )
    return items


def _answers(cell: str) -> list[str]:
    """The answers of a cell, separated by semicolons, each as a sentence."""
    return [sentence(part) for part in cell.split(";") if part.strip()]


MC1 = Suite(
    name="truthfulqa-mc1",
    title="TruthfulQA MC1",
    kind=Kind.UTILITY,
    modality=Modality.TEXT,
    source="TruthfulQA, github.com/sylinrl/TruthfulQA",
    licence="Apache-2.0",
    items=partial(_items, single=True),
    size=817,
    choose=best_is_right,
    files=(FILE,),
)
MC2 = Suite(
    name="truthfulqa-mc2",
    title="TruthfulQA MC2",
    kind=Kind.UTILITY,
    modality=Modality.TEXT,
    source=MC1.source,
    licence="Apache-2.0",
    items=partial(_items, single=False),
    size=817,
    choose=true_share,
    files=(FILE,),
)
