"""The prompts and refusals that were written for this project: enough, varied, well-formed, and nobody else's."""

import csv
import os
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from sklearn.feature_extraction.text import ENGLISH_STOP_WORDS

from unsay.data.sources import shipped
from unsay.errors import UserError
from unsay.records import SourceRow

QUESTION_CATEGORIES = {
    "homonyms",
    "figurative",
    "safe_targets",
    "safe_context",
    "definitions",
    "prevention",
    "history",
    "medicine_and_health",
    "law_and_ethics",
    "privacy_public",
    "identity_and_fairness",
    "nonsense",
    "security_work",
}
REFUSAL = re.compile(
    r"^(?:I understand you want an answer, but |Thanks for asking, but |My apologies, but |Unfortunately, |No, "
    r"|I apologise, but |(?:I'm|I am) sorry, but |Sorry,(?: but)? )?"
    r"(?:I (?:can't|cannot|won't|don't|am unable|am not able)|I'm not able|I'd rather not"
    r"|I (?:have|need) to (?:decline|refuse|say no)|I must (?:decline|refuse)"
    r"|(?:[Tt]hat's not|This isn't) (?:something|a request) I(?:'m able to| can) "
    r"|That(?: is|'s) a (?:request|line) I can't )"
)


@pytest.fixture(autouse=True)
def _forget_cached_rows() -> Iterator[None]:
    shipped._written.cache_clear()
    yield
    shipped._written.cache_clear()


def words(text: str) -> list[str]:
    return re.findall(r"[^\W_]+", re.sub(r"['’]", "", text.lower()))


def normalised(text: str) -> str:
    return " ".join(words(text))


def content_words(text: str) -> frozenset[str]:
    return frozenset(words(text)) - ENGLISH_STOP_WORDS


def jaccard(a: frozenset[str], b: frozenset[str]) -> float:
    return len(a & b) / len(a | b) if a | b else 0.0


def questions() -> list[SourceRow]:
    return [row for row in shipped.contrast() if row.subject is None and row.category in QUESTION_CATEGORIES]


def duplicates(texts: list[str]) -> list[str]:
    return [text for text, count in Counter(map(normalised, texts)).items() if count > 1]


def test_contrast_questions_are_many_and_evenly_spread() -> None:
    counts = Counter(row.category for row in questions())
    assert set(counts) == QUESTION_CATEGORIES
    assert sum(counts.values()) >= 620
    assert min(counts.values()) >= 45
    assert max(counts.values()) <= 1.25 * min(counts.values())


def test_contrast_questions_are_questions_of_varied_length_and_opening() -> None:
    texts = [row.text for row in questions()]
    lengths = [len(text.split()) for text in texts]
    assert 4 <= min(lengths) <= 6
    assert 20 <= max(lengths) <= 25
    assert sum(text.endswith("?") for text in texts) >= 0.9 * len(texts)
    opening, most = Counter(" ".join(words(text)[:4]) for text in texts).most_common(1)[0]
    assert most <= 8, opening


def test_every_contrast_file_is_read_in_order_and_names_its_source() -> None:
    rows = shipped.contrast()
    folder = shipped.PACKAGED
    lines = [line for path in sorted(folder.glob("contrast_*.jsonl")) for line in path.read_text("utf-8").splitlines()]
    assert len(rows) == len([line for line in lines if line.strip()])
    assert {row.source for row in rows} == {"contrast"}
    assert all(row.category and row.text == row.text.strip() and row.text for row in rows)


def test_plain_prompts_name_their_source() -> None:
    rows = shipped.plain()
    assert rows
    assert {row.source for row in rows} == {"plain"}


def test_no_written_prompt_occurs_twice() -> None:
    assert duplicates([row.text for row in shipped.contrast() + shipped.plain()]) == []


def test_the_lists_are_the_callers_own() -> None:
    shipped.contrast().clear()
    shipped.plain().clear()
    shipped.refusals().clear()
    assert shipped.contrast()
    assert shipped.plain()
    assert shipped.refusals()


def test_refusals_are_many_brief_and_distinct() -> None:
    lines = shipped.refusals()
    assert len(lines) >= 240
    assert duplicates(lines) == []
    assert [line for line in lines if not 10 <= len(line.split()) <= 28] == []
    assert [line for line in lines if not line.endswith((".", "?"))] == []
    # Curly quotes are other tokens than straight ones: a small model should see one spelling.
    assert [line for line in lines if not line.isascii()] == []


def test_refusals_are_recognisable_from_their_opening() -> None:
    lines = shipped.refusals()
    assert [line for line in lines if not REFUSAL.match(line)] == []
    plainest = sum(line.startswith(("I can't", "I'm sorry, but I can't")) for line in lines) / len(lines)
    assert 0.55 <= plainest <= 0.65
    # Shuffled: taking only the first hundred gives the same mix.
    first = sum(line.startswith(("I can't", "I'm sorry, but I can't")) for line in lines[:100]) / 100
    assert abs(first - plainest) <= 0.12


@pytest.mark.parametrize("text", ["I can help with that: here is how.", "Sure, I can't wait to help.", "That's easy."])
def test_the_pattern_for_refusals_does_not_match_everything(text: str) -> None:
    assert not REFUSAL.match(text)


def test_a_damaged_file_is_named_with_its_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "contrast_a.jsonl").write_text('{"text": "What is a kill switch?", "category": "x"}\n{"text": 3}\n')
    monkeypatch.setattr(shipped, "PACKAGED", tmp_path)
    with pytest.raises(UserError, match=r"contrast_a\.jsonl:2: text: "):
        shipped.contrast()


def test_missing_files_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shipped, "PACKAGED", tmp_path)
    with pytest.raises(UserError, match=r"contrast_\*\.jsonl"):
        shipped.contrast()
    with pytest.raises(UserError, match=r"plain_requests\.jsonl"):
        shipped.plain()
    with pytest.raises(UserError, match=r"refusals\.txt"):
        shipped.refusals()
    (tmp_path / "refusals.txt").write_text("\n \n")
    with pytest.raises(UserError, match="no refusals"):
        shipped.refusals()


@pytest.mark.skipif(not os.environ.get("UNSAY_DATA_DIR"), reason="XSTest is read only where UNSAY_DATA_DIR points")
def test_no_written_prompt_is_from_xstest() -> None:
    # Neither equal after normalisation nor with content-word Jaccard 0.6 or more. Failures name rows, never texts.
    path = Path(os.environ["UNSAY_DATA_DIR"]) / "xstest" / "xstest_prompts.csv"
    with path.open(encoding="utf-8", newline="") as handle:
        theirs = [row["prompt"] for row in csv.DictReader(handle)]
    assert len(theirs) == 450
    equal = {normalised(text) for text in theirs}
    their_words = [content_words(text) for text in theirs]
    ours = shipped.contrast() + shipped.plain()
    assert [index for index, row in enumerate(ours) if normalised(row.text) in equal] == []
    close = [
        (index, number)
        for index, row in enumerate(ours)
        for number, other in enumerate(their_words)
        if jaccard(content_words(row.text), other) >= 0.6
    ]
    assert close == []
