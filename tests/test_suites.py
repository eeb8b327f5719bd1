"""Suites are the same every time, twins ask the same requests, and nothing of them is in the training data."""

import os

import pytest
from PIL import Image

from unsay.data.recipe import RecipeSettings, harmful_examples, retain_examples, retain_pools
from unsay.data.splits import OverlapIndex, drop_overlap, request_of
from unsay.pipeline.suites import chosen
from unsay.records import Kind, Modality, Role
from unsay.suites import SUITES, Setting, advbench, benign, contrast, get_suite
from unsay.suites.shapes import first_word_is_right
from unsay.suites.transcription import character_error_rate

AVAILABLE = [name for name, suite in SUITES.items() if not suite.needs_data or os.environ.get("UNSAY_DATA_DIR")]


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    setting = Setting(tmp_path_factory.mktemp("images"), limit=12)
    return {name: get_suite(name).prompts(setting) for name in AVAILABLE}


@pytest.mark.parametrize("name", AVAILABLE)
def test_a_suite_is_whole(built, name):
    suite, rows = SUITES[name], built[name]
    assert rows
    assert len({row.id for row in rows}) == len(rows)
    for row in rows:
        assert (row.suite, row.kind, row.modality) == (name, suite.kind, suite.modality)
        assert (row.image is None) == (suite.modality is Modality.TEXT)
        if row.image:
            with Image.open(row.image) as image:
                assert image.size[0] > 0
        if suite.kind is Kind.UTILITY:
            assert row.reference


@pytest.mark.parametrize("name", AVAILABLE)
def test_a_suite_is_the_same_every_time(built, name, tmp_path):
    again = get_suite(name).prompts(Setting(tmp_path, limit=12))
    assert [(row.id, row.group, row.prompt) for row in again] == [(r.id, r.group, r.prompt) for r in built[name]]


@pytest.mark.parametrize("name", [name for name in AVAILABLE if SUITES[name].twin])
def test_a_twin_asks_the_same_requests_and_only_the_picture_says_them(built, name):
    words = {row.group: row.request for row in built[SUITES[name].twin]}
    assert {row.group: row.request for row in built[name]} == words
    assert len({row.prompt for row in built[name]}) == 1


def test_without_the_data_its_suites_are_left_out(monkeypatch):
    monkeypatch.delenv("UNSAY_DATA_DIR", raising=False)
    assert all(not suite.needs_data for suite in chosen([]))


def test_no_suite_prompt_is_trained_on(tmp_path):
    """The same construction as a run's, on every suite at full size, and the suites that need data where it is."""
    setting = Setting(tmp_path)
    asked = [
        row
        for name in AVAILABLE
        if SUITES[name].kind is not Kind.UTILITY and SUITES[name].modality is Modality.TEXT
        for row in get_suite(name).prompts(setting)
    ]
    requests = drop_overlap(advbench.halves()[0], asked)
    pools = retain_pools(contrast.halves()[0], benign.plain_halves()[0], benign.magpie_halves()[0])
    retain, probe = retain_examples(pools, asked, RecipeSettings(), 0)
    examples = [*harmful_examples(requests, [], RecipeSettings(), 0), *retain, *probe]
    index = OverlapIndex(row.request for row in asked)
    assert not [example.id for example in examples if index.overlaps(request_of(example))]
    assert len(requests) > 120
    assert len(retain) > 1500
    assert not {example.id for example in retain} & {example.id for example in probe}
    assert {example.role for example in examples} == {Role.REFUSE, Role.RETAIN}


@pytest.mark.parametrize(
    ("said", "right", "rate"),
    [
        ("abc", "abc", 0.0),
        ("ABC  d", "abc d", 0.0),
        ("abd", "abc", 1 / 3),
        ("", "abcd", 1.0),
        ("ab", "abcd", 0.5),
        ("abcdefghij", "ab", 1.0),  # never above 1
    ],
)
def test_character_error_rate_by_hand(said, right, rate):
    assert character_error_rate(said, right) == pytest.approx(rate)


@pytest.mark.parametrize(
    ("said", "right", "verdict"),
    [
        ("Green.", "green", True),
        ("2", "two", True),
        ("Two shapes", "two", True),
        ("red and green", "green", False),
        ("", "no", False),
    ],
)
def test_only_the_first_word_counts(said, right, verdict):
    assert first_word_is_right(said, right) is verdict
