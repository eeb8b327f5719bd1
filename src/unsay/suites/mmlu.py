"""MMLU's test half (Hendrycks et al. 2020, arXiv 2009.03300), by the likelihood of the four letters; no examples.

The authors put five examples of the subject before a question. They do not fit the context of small models, so none are
given: numbers compare a model with itself, not with published five-shot ones.
"""

import csv
import io

from unsay.data.published import Published
from unsay.errors import UserError
from unsay.files import read_text
from unsay.records import Kind, Modality
from unsay.suites.base import Item, Suite
from unsay.suites.scorers import best_is_right

FOLDER = Published(
    "mmlu/data/test",
    "data.tar of people.eecs.berkeley.edu/~hendrycks, unpacked to `mmlu` "
    "(sha256 bec563ba4bac1d6aaf04141cd7d1605d7a5ca833e38f994051e818489592989b)",
    floating="it comes by hand; the archive's sha256 is in the line that `unsay suites` prints, and not checked",
)
LETTERS = ("A", "B", "C", "D")
SUBJECTS = 57


def _items() -> list[Item]:
    """The questions, by subject."""
    folder = FOLDER.find()
    files = sorted(folder.glob("*_test.csv"))
    if len(files) != SUBJECTS:
        raise UserError(f"{folder}: holds {len(files)} subjects, {SUBJECTS} were expected")
    items = []
    for path in files:
        subject = path.name.removesuffix("_test.csv").replace("_", " ")
        for number, row in enumerate(csv.reader(io.StringIO(read_text(path), newline="")), start=1):
            if len(row) != 6 or row[5].strip() not in LETTERS:
                raise UserError(f"{path}: row {number}: a question, four choices and a letter were expected")
            question, *choices, right = row
            options = "\n".join(f"{letter}. {choice}" for letter, choice in zip(LETTERS, choices, strict=True))
            items.append(
                Item(
                    f"A multiple choice question about {subject}.\n\n{question}\n{options}\nAnswer:",
                    category=subject,
                    key=f"{subject}/{number}",
                    reference=right.strip(),
                    choices=LETTERS,
                    answers=(right.strip(),),
                )
            )
    return items


SUITE = Suite(
    name="mmlu",
    title="MMLU, no examples",
    kind=Kind.UTILITY,
    modality=Modality.TEXT,
    source="MMLU test, github.com/hendrycks/test",
    licence="MIT",
    items=_items,
    size=14_042,
    choose=best_is_right,
    files=(FOLDER,),
)
