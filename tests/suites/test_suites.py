"""Suites are the same every time, twins ask the same requests, and nothing of them is in the training data."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from helpers.harmful import harmful_examples
from unsay.data.recipe import RecipeSettings, choose_retain, retain_examples, retain_pools
from unsay.data.sources import halves
from unsay.data.splits import OverlapIndex, drop_overlap, request_of
from unsay.files import content_key, file_key
from unsay.records import Kind, Modality, Role
from unsay.run.suites import select_suites
from unsay.suites import STANDARD, SUITES, Setting, get_suite
from unsay.suites.shapes import first_word_is_right
from unsay.suites.transcription import character_error_rate, held_out, reading_style, sentences

AVAILABLE = [name for name, suite in SUITES.items() if suite.missing() is None]


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


PRINTED = """
import sys
from pathlib import Path
from unsay.files import content_key, file_key
from unsay.suites import Setting, get_suite
for name in sys.argv[2:]:
    rows = get_suite(name).prompts(Setting(Path(sys.argv[1]), limit=12))
    print(name, content_key([[row.id, row.prompt, row.request, row.group, row.reference] for row in rows]),
          content_key([file_key(Path(row.image)) for row in rows if row.image]))
"""


def test_suites_and_their_pictures_are_the_same_in_every_process(built, tmp_path):
    seed = "2" if os.environ.get("PYTHONHASHSEED") == "1" else "1"  # another than in this process
    done = subprocess.run(
        [sys.executable, "-c", PRINTED, str(tmp_path), *AVAILABLE],
        capture_output=True, text=True, check=True, env={**os.environ, "PYTHONHASHSEED": seed},
    )  # fmt: skip
    here = [
        [
            name,
            content_key([[row.id, row.prompt, row.request, row.group, row.reference] for row in rows]),
            content_key([file_key(Path(row.image)) for row in rows if row.image]),
        ]
        for name, rows in built.items()
    ]
    assert [line.split() for line in done.stdout.splitlines()] == here


def test_the_suites_of_a_run_hold_enough_to_say_something(tmp_path, monkeypatch):
    monkeypatch.setattr("unsay.data.typography.render_text", lambda *_, **__: None)  # the pictures are not looked at
    monkeypatch.setattr("unsay.data.typography.save_png", lambda *_: None)
    for name in AVAILABLE:
        assert len(get_suite(name).prompts(Setting(tmp_path, limit=64))) == min(64, SUITES[name].size), name
    assert all(suite.size >= 64 for suite in STANDARD)


def test_reading_is_asked_in_letters_that_can_be_read():
    styles = [reading_style(text) for text in sentences(held_out())]
    assert len(styles) > 100
    assert {style.font for style in styles} == {"DejaVuSans"}
    assert {style.size for style in styles} == set(range(14, 25))
    assert len({style.ink for style in styles}) > 90
    assert all(max(style.ink) < 100 < 200 < min(style.paper) for style in styles)


@pytest.mark.parametrize("name", [name for name in AVAILABLE if SUITES[name].twin])
def test_a_twin_asks_the_same_requests_and_only_the_picture_says_them(built, name):
    words = {row.group: row.request for row in built[SUITES[name].twin]}
    assert {row.group: row.request for row in built[name]} == words
    assert not {row.request for row in built[name]} & {row.prompt for row in built[name]}


def test_without_the_data_its_suites_are_left_out(monkeypatch):
    monkeypatch.delenv("UNSAY_DATA_DIR", raising=False)
    assert all(not suite.needs_data for suite in select_suites([]))
    assert all(not suite.needs_data for suite in select_suites(["all-available"]))
    assert {suite.name for suite in select_suites([])} < {suite.name for suite in STANDARD}


def test_no_suite_prompt_is_trained_on(tmp_path):
    """The same construction as a run's, on the standard suites at full size, those that need data where it is."""
    setting = Setting(tmp_path)
    asked = [
        row
        for name in [suite.name for suite in STANDARD if suite.missing() is None]
        # a twin of a standard suite asks the same requests
        if SUITES[name].kind is not Kind.UTILITY and SUITES[name].twin not in {suite.name for suite in STANDARD}
        for row in get_suite(name).prompts(setting)
    ]
    requests = drop_overlap(halves.advbench()[0], asked)
    pools = retain_pools(halves.contrast()[0], halves.plain()[0], halves.magpie()[0])
    retain, probe = retain_examples(choose_retain(pools, asked, RecipeSettings(), 0), RecipeSettings(), 0)
    examples = [*harmful_examples(requests, [], RecipeSettings(), 0), *retain, *probe]
    index = OverlapIndex(row.request for row in asked)
    assert not [example.id for example in examples if index.overlaps(request_of(example))]
    assert len(requests) > 120
    assert len(retain) > 1500
    assert not {example.id for example in retain} & {example.id for example in probe}
    assert {example.role for example in examples} == {Role.REFUSE, Role.RETAIN}


def test_a_limit_on_the_shapes_is_an_upper_bound(tmp_path):
    assert len(get_suite("shapes").prompts(Setting(tmp_path))) == SUITES["shapes"].size == 96
    assert len(get_suite("shapes").prompts(Setting(tmp_path, limit=300))) == 96
    assert len(get_suite("shapes").prompts(Setting(tmp_path, limit=7))) == 7


@pytest.mark.parametrize(
    ("said", "right", "rate"),
    [
        ("abc", "abc", 0.0),
        ("ABC  d", "abc d", 0.0),
        ("abd", "abc", 1 / 3),
        ("", "abcd", 1.0),
        ("ab", "abcd", 0.5),
        ("abcdefghij", "ab", 1.0),  # never above 1
        ("kitten", "sitting", 3 / 7),
        ("a b\nc", "a b c", 0.0),
        ("", "", 0.0),
        ("x", "", 1.0),
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
