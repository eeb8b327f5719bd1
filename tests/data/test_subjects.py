"""Contrast prompts cover every subject, and harmful requests have one. Failures show counts, never texts."""

import json
import os
from collections import Counter, defaultdict
from pathlib import Path

import pytest

from tools import packaged_prompts
from tools.packaged_prompts import public_prompts
from unsay.data.recipe import harmful_pool
from unsay.data.sources import halves, shipped
from unsay.data.splits import content_words, drop_copies, drop_overlap
from unsay.data.subjects import OF_CATEGORY, with_subjects
from unsay.records import Kind, SourceRow

KINDS = {
    "definition",
    "prevention",
    "history",
    "law",
    "fiction",
    "safety",
    "idiom",
    "game",
    "support",
    "profession",
}


def by_subject(rows: list[SourceRow]) -> dict[str, list[SourceRow]]:
    groups: defaultdict[str, list[SourceRow]] = defaultdict(list)
    for row in rows:
        groups[row.subject or ""].append(row)
    return dict(groups)


WRITTEN = by_subject([row for row in shipped.contrast() if row.subject is not None])


def test_contrast_prompts_are_enough_and_about_sixteen_subjects() -> None:
    assert len(shipped.contrast()) >= 6_000
    assert len(WRITTEN) == 16
    assert set(OF_CATEGORY.values()) < set(WRITTEN)


@pytest.mark.parametrize("subject", sorted(WRITTEN))
def test_each_subject_has_every_kind_length_and_form(subject: str) -> None:
    rows = WRITTEN[subject]
    assert len(rows) >= 240
    kinds = Counter(row.category for row in rows)
    assert set(kinds) == KINDS
    assert min(kinds.values()) >= 18
    assert max(kinds.values()) <= 30
    lengths = [len(row.text.split()) for row in rows]
    assert max(lengths) <= 60
    assert 0.45 <= sum(length >= 25 for length in lengths) / len(rows) <= 0.55
    questions = sum("?" in row.text for row in rows) / len(rows)
    assert 0.35 <= questions <= 0.6


def test_no_two_contrast_prompts_by_subject_are_near_copies() -> None:
    rows = [row for rows in WRITTEN.values() for row in rows]
    others = [row for row in shipped.contrast() if row.subject is None] + shipped.plain()
    assert len(drop_copies(rows, others)) == len(rows)


@pytest.mark.pocket
def test_contrast_prompts_share_the_words_of_harmful_requests() -> None:
    harmful = by_subject(harmful_pool())
    assert set(harmful) == set(WRITTEN)
    for subject, requests in harmful.items():
        said = Counter(word for row in requests for word in content_words(row.text))
        known = {word for row in WRITTEN[subject] for word in content_words(row.text)}
        assert sum(count for word, count in said.items() if word in known) >= 0.55 * said.total(), subject
        frequent = {word for word, _ in said.most_common(40)}
        sharing = sum(bool(content_words(row.text) & frequent) for row in WRITTEN[subject])
        assert sharing >= 0.3 * len(WRITTEN[subject]), subject


@pytest.mark.skipif(not os.environ.get("UNSAY_DATA_DIR"), reason="public sets are read where UNSAY_DATA_DIR points")
def test_no_contrast_prompt_is_near_a_public_borderline_set() -> None:
    suites = public_prompts(Kind.BENIGN)
    assert suites
    rows = shipped.contrast()
    near = {name: len(rows) - len(drop_overlap(rows, asked)) for name, asked in suites.items()}
    assert near == dict.fromkeys(suites, 0)


@pytest.mark.pocket
@pytest.mark.skipif(not os.environ.get("UNSAY_DATA_DIR"), reason="public sets are read where UNSAY_DATA_DIR points")
def test_no_harmful_request_is_near_a_public_suite() -> None:
    rows = harmful_pool()
    assert len(drop_overlap(rows, *public_prompts(Kind.ATTACK, Kind.BENIGN).values())) == len(rows)


def test_subjects_by_category_by_words_and_as_given() -> None:
    rows = [
        SourceRow(text="[anything]", source="toy", category="scams"),
        SourceRow(text="How do vaccines against heroin work?", source="toy", category="history"),
        SourceRow(text="How do vaccines against heroin work?", source="toy", category="history", subject="mine"),
    ]
    assert [row.subject for row in with_subjects(rows)] == ["fraud_scams", "drugs", "mine"]
    assert with_subjects([]) == []


@pytest.mark.pocket
def test_harmful_requests_are_of_every_subject_and_near_no_other() -> None:
    rows = harmful_pool()
    assert len(rows) == 303
    assert min(Counter(row.subject for row in rows).values()) >= 5
    assert len(drop_copies(rows, halves.advbench()[1])) == len(rows)


def as_json(texts: list[str], kind: str) -> str:
    return "".join(json.dumps({"text": text, kind: "k", "subject": "s"}) + "\n" for text in texts)


def test_packaging_drops_copies_and_makes_marks_plain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    public = {"toy": [SourceRow(text="Why do rivers flood villages?", source="toy")]}
    monkeypatch.setattr(packaged_prompts, "public_prompts", lambda *_: public)
    texts = ["Why \u201crivers\u201d  flood villages?", "Name the boat\u2019s mast", "Name a boat's mast", "Bake bread"]
    (tmp_path / "s.jsonl").write_text(as_json(texts, "kind"))
    packaged_prompts.package_contrast([tmp_path / "s.jsonl"], tmp_path)
    assert (tmp_path / "contrast_s.jsonl").read_text() == as_json(["Name the boat's mast", "Bake bread"], "category")
    assert capsys.readouterr().out.startswith("contrast prompts: 4, 3 of them near no public suite, 2 ")
