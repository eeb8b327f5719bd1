"""Batches by subject: harmful rows in turn, the likest harmless row beside each, and nothing else moved."""

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unsay.errors import UserError
from unsay.methods import build_method
from unsay.records import Example, Role
from unsay.training.pairing import Pairs, in_turn_forever
from unsay.training.plan import steps_of
from unsay.training.settings import TrainSettings


def example(number, role, subject=None, request="", source="toy"):
    return Example(
        id=f"{role}-{number:03}", role=role, prompt=request or f"{role} {number}", answer="a", source=source,
        subject=subject,
    )  # fmt: skip


@given(st.lists(st.sampled_from(["a", "b", "c", None]), min_size=1, max_size=30), st.integers(0, 99))
def test_every_row_once_before_any_twice_in_rounds_over_subjects(subjects, seed):
    pool = [example(number, Role.REFUSE, subject) for number, subject in enumerate(subjects)]
    stream = in_turn_forever(pool, random.Random(seed))
    for _ in range(2):
        order = [next(stream) for _ in pool]
        assert sorted(row.id for row in order) == [row.id for row in pool]
        place = 0
        left = Counter(subjects)
        while place < len(order):  # each round has every subject that has rows left, once
            size = len(left)
            assert {row.subject for row in order[place : place + size]} == set(left)
            left = Counter({subject: count - 1 for subject, count in left.items() if count > 1})
            place += size


def test_the_likest_row_of_the_subject_by_hand():
    pool = [
        example(0, Role.RETAIN, "water", "write about rivers and boats", "contrast"),
        example(1, Role.RETAIN, "water", "write about rivers", "contrast"),
        example(2, Role.RETAIN, "water", "write about lakes", "contrast"),
        example(3, Role.RETAIN, "bread", "write about rivers and boats and mills", "contrast"),
    ]
    # "write" is in all rows and weighs log(4/4) = 0; "river" in three, log(4/3); "boat" in two, log 2.
    pairs = Pairs(pool, random.Random(0))
    asked = example(9, Role.REFUSE, "water", "write of boats on rivers")
    assert [pairs.beside(asked, "contrast").id for _ in range(4)] == [f"retain-00{number}" for number in (0, 1, 2, 3)]
    assert pairs.beside(asked, "contrast").id == "retain-000"  # only when all were used


def data():
    harmful = [
        example(number, role, "abc"[number % 3], f"do {'abc'[number % 3] * 4} thing{number}")
        for role in (Role.FORGET, Role.REFUSE)
        for number in range(12)
    ]
    contrast = [
        example(number, Role.RETAIN, "abc"[number % 3], f"about {'abc'[number % 3] * 4} thing{number}", "contrast")
        for number in range(36)
    ]
    return [*harmful, *contrast, *(example(100 + number, Role.RETAIN, source="plain") for number in range(30))]


NEEDS = build_method("textual-unlearning").needs
SETTINGS = TrainSettings(
    steps=12, batch={"forget": 1, "refuse": 2, "retain": 4}, retain_mix={"contrast": 0.5, "plain": 0.5}
)


def test_steps_by_subject_are_balanced_and_paired():
    chance = steps_of(data(), NEEDS, SETTINGS)
    by_subject = steps_of(data(), NEEDS, SETTINGS.model_copy(update={"batch_by": "subject"}))
    seen = Counter()
    for before, rows in zip(chance, by_subject, strict=True):
        # Sources, and rows without a subject, are those of the same draw.
        assert [(row.role, row.source) for row in rows] == [(row.role, row.source) for row in before]
        assert [row for row in rows if row.source == "plain"] == [row for row in before if row.source == "plain"]
        refuse = [row for row in rows if row.role is Role.REFUSE]
        assert len({row.subject for row in refuse}) == 2
        harmful = refuse + [row for row in rows if row.role is Role.FORGET]
        contrast = [row for row in rows if row.source == "contrast"]
        for number, row in enumerate(contrast):
            assert row.subject == harmful[number % 3].subject
        seen.update(row.id for row in contrast)
    assert max(seen.values()) == 1
    for role, count in ((Role.FORGET, 4), (Role.REFUSE, 8)):
        subjects = Counter(row.subject for rows in by_subject for row in rows if row.role is role)
        assert set(subjects.values()) == {count}


def test_a_harmful_row_meets_its_twin():
    rows = steps_of(data(), NEEDS, SETTINGS.model_copy(update={"batch_by": "subject"}))[0]
    first = next(row for row in rows if row.role is Role.REFUSE)
    beside = next(row for row in rows if row.source == "contrast")
    assert beside.prompt.split()[-1] == first.prompt.split()[-1]


def test_the_default_is_chance_and_keeps_its_key():
    assert TrainSettings().batch_by == "chance"
    assert "batch_by" not in TrainSettings().decisive()
    assert TrainSettings(batch_by="subject").decisive()["batch_by"] == "subject"


def test_the_same_seed_gives_the_same_steps_whatever_the_order_of_the_examples():
    settings = SETTINGS.model_copy(update={"batch_by": "subject"})
    assert steps_of(data(), NEEDS, settings) == steps_of(data()[::-1], NEEDS, settings)


def test_rows_without_subjects_cannot_be_batched_by_them():
    rows = [row.model_copy(update={"subject": None}) for row in data()]
    with pytest.raises(UserError, match=r"^train\.batch_by: no forget or refuse example has a subject"):
        steps_of(rows, NEEDS, SETTINGS.model_copy(update={"batch_by": "subject"}))
