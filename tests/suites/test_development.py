"""Suites to choose on and suites to report: who has which request, and that no request is on both sides."""

import json
import os

import pytest

from helpers import published_text
from unsay.data.splits import OverlapIndex, drop_overlap
from unsay.records import Kind, Modality
from unsay.run.suites import requested_suites, select_suites
from unsay.suites import (
    GROUPS,
    SUITES,
    UNLISTED,
    Setting,
    development,
    find_suite,
    get_suite,
    over_refusal,
    reporting,
    xstest,
)

needs_benchmarks = pytest.mark.skipif(not os.environ.get("UNSAY_DATA_DIR"), reason="UNSAY_DATA_DIR is not set")


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("UNSAY_DATA_DIR", str(tmp_path / "data"))
    published_text.development(tmp_path / "data")
    return Setting(tmp_path / "images")


def requests(name, setting):
    return [row.request for row in get_suite(name).prompts(setting)]


def test_what_is_reported_is_not_chosen_on(data):
    """`[Request: 2]` is a request of the reported sets in another spelling."""
    assert requests("dev-jailbreakbench", data) == ["[deed 1]", "[deed 3]"]
    assert requests("dev-jailbreakbench-benign", data) == ["[favour 1]", "[deed 3]"]
    assert requests("dev-msts", data) == ["[wish 2]"]
    assert requests("dev-figstep-benign", data) == ["[question 1]"]
    assert requests("jailbreakbench", data) == ["[deed 1]", "[Request: 2]", "[deed 3]"]


def test_the_halves_of_xstest_are_the_whole_and_pairs_stay_together(data, tmp_path):
    rows = [(str(n), f"[{kind} {n}]", "homonyms", kind, f"word {n % 200}", "") for n, kind in enumerate(
        ["safe"] * 250 + ["unsafe"] * 200
    )]  # fmt: skip
    published_text.table(tmp_path / "data/xstest/xstest_prompts.csv", "id,prompt,type,label,focus,note", *rows)
    halves = {half: xstest.prompts("safe", half) + xstest.prompts("unsafe", half) for half in ("train", "test")}
    words = {half: {int(item.text[:-1].split()[1]) % 200 for item in items} for half, items in halves.items()}
    assert sum(map(len, halves.values())) == 450
    assert words["train"] | words["test"] == set(range(200))
    assert not words["train"] & words["test"]
    assert 70 < len(words["train"]) < 130
    assert len(requests("report-xstest-safe", data)) == len(xstest.prompts("safe", "test"))


def test_the_parts_of_falsereject_are_the_whole(data, tmp_path):
    row = {"category_text": "Fraud"}
    rows = [{**row, "prompt": f"[errand {n}]"} for n in range(400)]
    published_text.write(tmp_path / "data/falsereject/FalseReject_test.json", json.dumps(rows))
    chosen, reported = requests("dev-falsereject", data), requests("report-falsereject", data)
    assert sorted(chosen + reported) == sorted(row["prompt"] for row in rows)
    assert 120 < len(chosen) < 200


def test_groups_stand_for_their_suites_in_words_and_by_every_renderer(data):
    chosen = [suite.name for suite in select_suites(["development"])]
    assert chosen == [suite.name for suite in requested_suites(["development", "dev-msts-sign"])]
    assert [name for name in chosen if find_suite(name).modality is Modality.TEXT] == [
        suite.name for suite in development.CHOSEN_ON
    ]
    for suite in (*development.CHOSEN_ON, *reporting.DRAWN):
        drawn = {f"{suite.name}-{name}" for name in ("page", "sign", "note")}
        assert {row.name for row in (*GROUPS["development"], *GROUPS["reporting"]) if row.twin == suite.name} >= drawn
    kinds = {kind: [suite.name for suite in development.CHOSEN_ON if suite.kind is kind] for kind in Kind}
    assert [len(kinds[kind]) for kind in (Kind.ATTACK, Kind.BENIGN)] == [4, 4]
    assert not {suite.name for suite in GROUPS["development"]} & {suite.name for suite in GROUPS["reporting"]}


def test_they_are_not_listed(data):
    listed = {suite.name for suite in select_suites(["all-available"])}
    assert not listed & UNLISTED.keys()
    assert not listed & {f"{name}-{ending}" for name in SUITES for ending in ("page", "sign", "note")}
    assert find_suite("transcription-page") is None  # no request that could be drawn
    assert find_suite("dev-harmbench-page+blank") is None


@needs_benchmarks
def test_real_development_and_reporting_suites_share_no_request(tmp_path, monkeypatch):
    """Near duplicates included; reported sets whose file is not here are left out."""
    setting = Setting(tmp_path)
    here = [suite for suite in development.QUOTED if suite.missing() is None]
    monkeypatch.setattr(development, "QUOTED", here)
    development._quoted.cache_clear()
    reported = [row for suite in here for row in suite.prompts(setting)]
    assert len(reported) > 4000
    index = OverlapIndex(row.request for row in reported)
    for suite in development.CHOSEN_ON:
        if suite.name == "dev-falsereject" and over_refusal.FALSEREJECT.missing() is not None:
            continue
        rows = suite.prompts(setting)
        assert len(rows) >= 80
        assert not [row.id for row in rows if index.overlaps(row.request)]
        assert len(drop_overlap(reported, rows)) == len(reported)
    development._quoted.cache_clear()
