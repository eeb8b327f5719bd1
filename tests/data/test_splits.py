"""Sides, near duplicates and disjointness. No prompt is printed: assertions compare counts and keys."""

import random
import unicodedata

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from unsay.data.sources import wheels
from unsay.data.splits import (
    content_words,
    drop_copies,
    drop_overlap,
    near_duplicates,
    normalise,
    prompt_key,
    request_of,
    side,
    split,
)
from unsay.records import Example, Kind, Modality, Prompt, Role, SourceRow

TEXTS = st.text(max_size=60)
WORDS = st.sampled_from(
    ["river", "boat", "paint", "wooden", "chair", "mountain", "bake", "bread", "the", "a", "how", "to"]
)
SENTENCES = st.lists(WORDS, min_size=1, max_size=8).map(" ".join)


def rows_of(texts: list[str], source: str = "toy") -> list[SourceRow]:
    return [SourceRow(text=text, source=source) for text in texts]


# --- one spelling ------------------------------------------------------------------------------------------------


def test_normalise_by_hand() -> None:
    assert normalise("  How  do I,\tBAKE   bread?! ") == "how do i bake bread"
    assert normalise("ﬁne “Straße”—café") == "fine strasse café"
    assert normalise("cafe\u0301") == normalise("caf\u00e9")
    assert normalise("नमस्ते दुनिया") == "नमस्ते दुनिया"  # vowel signs are not punctuation
    assert normalise("?!") == "?!"
    assert normalise("") == ""


@given(TEXTS)
def test_normalise_is_idempotent(text: str) -> None:
    assert normalise(normalise(text)) == normalise(text)


@given(TEXTS, st.sampled_from(["  {}", "{}!", "“{}”", "{}\n"]))
def test_case_space_and_punctuation_do_not_matter(text: str, dress: str) -> None:
    assume(any(unicodedata.category(char)[0] in "LN" for char in text))
    assert prompt_key(dress.format(text)) == prompt_key(text)
    assert side(dress.format(text)) == side(text)


@given(TEXTS)
def test_sides_follow_the_share(text: str) -> None:
    assert side(text, test_share=0.0) == "train"
    assert side(text, test_share=1.0) == "test"
    assert side(text) == side(text)
    if side(text, test_share=0.2) == "test":  # a larger test side contains the smaller one
        assert side(text, test_share=0.7) == "test"


def test_sides_are_fixed_for_ever_and_balanced() -> None:
    # A change of these would put yesterday's training prompts into today's tests.
    assert [side(word) for word in ("river", "boat", "chair", "bread")] == ["test", "train", "test", "test"]
    share = sum(side(str(number)) == "test" for number in range(4000)) / 4000
    assert 0.47 < share < 0.53
    moved = sum(side(str(number)) != side(str(number), salt="other") for number in range(4000)) / 4000
    assert 0.47 < moved < 0.53


# --- near duplicates ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("Explain how to bake rye bread", "Explain how baking rye bread works", True),  # stems meet
        ("How do I paint a wooden chair?", "Paint my wooden chair", True),
        ("Paint a wooden chair", "Write a long story in which an old man learns to paint a wooden chair", True),
        ("How do I paint a wooden chair?", "How do I bake a loaf of bread?", False),
        ("Bake bread", "Write a letter to the baker who sold stale bread to my aunt", False),  # two words say little
        ("如何在家烤全麦面包", "请教我如何在家里烤全麦面包", True),  # no spaces: pairs of characters
        ("如何在家烤全麦面包", "如何在家油漆木椅子", False),
        ("วิธีอบขนมปังที่บ้าน", "สอนวิธีอบขนมปังที่บ้าน", True),
        ("GPTで木の椅子を塗る方法", "GPTでパンを焼く方法", False),  # spaces are no part of a mix either
        ("how to", "the a", False),  # nothing but function words
        ("how to?", "How to", True),  # equal all the same
    ],
)
def test_near_duplicates_by_hand(first: str, second: str, expected: bool) -> None:
    assert near_duplicates(first, second) is expected
    assert near_duplicates(second, first) is expected


def test_content_words_by_hand() -> None:
    assert content_words("Paint the WOODEN chairs!") == {"paint", "wooden", "chair"}
    assert content_words("烤面包 and 茶") == {"烤面", "面包", "茶"}
    assert content_words("用GPT写信") == {"用", "gpt", "写信"}


@given(SENTENCES, SENTENCES)
def test_near_duplicates_agree_with_the_definition(first: str, second: str) -> None:
    one, two = content_words(first), content_words(second)
    shared, smaller = len(one & two), min(len(one), len(two))
    expected = normalise(first) == normalise(second)
    if shared:
        expected |= shared / len(one | two) >= 0.5 or (smaller >= 3 and shared / smaller >= 0.8)
    assert near_duplicates(first, second) is expected
    assert near_duplicates(second, first) is expected


# --- splitting ---------------------------------------------------------------------------------------------------


@given(st.lists(SENTENCES, max_size=25), st.randoms(use_true_random=False))
def test_split_is_clean_complete_and_independent_of_order(texts: list[str], shuffler: random.Random) -> None:
    rows = rows_of(texts)
    train, test = split(rows)
    assert not any(near_duplicates(left.text, right.text) for left in train for right in test)
    assert test == [row for row in rows if side(row.text) == "test"]  # nothing is ever lost from the test side
    for row in rows:  # and nothing from the train side without a reason
        if row not in train and row not in test:
            assert any(near_duplicates(row.text, other.text) for other in test)
    shuffled = list(rows)
    shuffler.shuffle(shuffled)
    again = split(shuffled)
    assert [sorted(row.text for row in half) for half in again] == [
        sorted(row.text for row in half) for half in (train, test)
    ]


@given(st.lists(SENTENCES, max_size=12), st.lists(SENTENCES, max_size=6), st.lists(SENTENCES, max_size=6))
def test_held_out_sets_add_up(train: list[str], first: list[str], second: list[str]) -> None:
    rows, one, two = rows_of(train), rows_of(first, "one"), rows_of(second, "two")
    kept = drop_overlap(rows, one, two)
    assert kept == drop_overlap(drop_overlap(rows, two), one)
    assert drop_overlap(rows) == rows
    assert drop_overlap(kept, one, two) == kept


@given(st.lists(SENTENCES, max_size=20), st.lists(SENTENCES, max_size=6))
def test_copies_of_earlier_rows_are_dropped(texts: list[str], held: list[str]) -> None:
    rows, held_out = rows_of(texts), rows_of(held, "held")
    kept = drop_copies(rows, held_out)
    for number, row in enumerate(kept):
        assert not any(near_duplicates(row.text, other.text) for other in kept[:number])
    for row in rows:  # whatever is dropped has a copy
        assert row in kept or any(near_duplicates(row.text, other.text) for other in (*kept, *held_out))


def test_wrapped_requests_are_compared_bare() -> None:
    example = Example(
        id="1", role=Role.FORGET, prompt="Please! Paint a wooden chair :)", answer="a", source="s", request="a chair"
    )
    prompt = Prompt(
        id="1",
        suite="s",
        kind=Kind.BENIGN,
        modality=Modality.TYPOGRAPHIC,
        prompt="Do what the picture says.",
        request="Paint a wooden chair",
        group="g",
    )
    assert request_of(example) == "a chair"
    assert request_of(prompt) == "Paint a wooden chair"
    plain = Example(id="2", role=Role.FORGET, prompt="Paint a wooden chair", answer="a", source="s")
    assert drop_overlap([example, plain], [prompt]) == [example]


@pytest.mark.pocket
def test_real_harmful_sources_are_disjoint_after_splitting() -> None:
    goals = wheels.advbench()
    train, test = split(goals)
    assert len(test) > 200
    assert len(train) > 120
    held_out = [*test, *wheels.harmbench(), *wheels.do_not_answer()]
    kept = drop_overlap(train, held_out)
    assert 120 < len(kept) < len(train)  # the same behaviours do recur across data sets
    assert {prompt_key(row.text) for row in kept}.isdisjoint(prompt_key(row.text) for row in held_out)
    # Again without the index, by the definition alone.
    others = [content_words(row.text) for row in held_out]
    for row in kept:
        words = content_words(row.text)
        assert all(len(words & other) < 0.5 * len(words | other) for other in others)
