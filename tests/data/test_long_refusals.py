"""Long refusals: of the promised length, found by the judges' rules, without a word of the request."""

import itertools
import random

import pytest

from helpers.harmful import harmful_examples
from unsay.data.long_refusals import DECLINES, OPENERS, REASONS, long_refusal
from unsay.data.recipe import RecipeSettings
from unsay.data.sources import shipped
from unsay.judges.refusal import refusal_reason
from unsay.records import SourceRow

ROWS = [
    SourceRow(text=f"[request {number}]", source="toy", subject=subject)
    for number, subject in enumerate(["drugs", "violence", None, "no such subject"] * 10)
]


@pytest.mark.parametrize("subject", OPENERS)
def test_every_one_has_30_to_60_words_and_declines_by_the_judges_rules(subject):
    for parts in itertools.product(OPENERS[subject], DECLINES, REASONS[subject]):
        text = " ".join(parts)
        assert 30 <= len(text.split()) <= 60, text
        assert refusal_reason(text), text
        assert refusal_reason(parts[0]) is None, "the subject alone is no refusal: the decision comes later"


def test_every_subject_of_the_training_data_has_its_own():
    subjects = {row.subject for row in shipped.contrast() if row.subject is not None}
    assert subjects == OPENERS.keys() - {None} == REASONS.keys() - {None}
    texts = [text for texts in (*OPENERS.values(), DECLINES, *REASONS.values()) for text in texts]
    assert len(set(texts)) == len(texts)


def test_they_are_drawn_by_subject_and_an_unknown_one_fits_all():
    drawn = {long_refusal("drugs", random.Random(seed)) for seed in range(200)}
    assert len(drawn) == 3 * 6 * 2
    assert all(text.startswith(OPENERS["drugs"]) and text.endswith(REASONS["drugs"]) for text in drawn)
    assert long_refusal("no such subject", random.Random(1)).startswith(OPENERS[None])


def test_a_share_of_the_refuse_examples_has_them_and_the_others_stay():
    settings = RecipeSettings(refusals_per_prompt=5)
    before = harmful_examples(ROWS, [], settings, 0)
    some = harmful_examples(ROWS, [], settings.model_copy(update={"long_refusals": 0.5}), 0)
    every = harmful_examples(ROWS, [], settings.model_copy(update={"long_refusals": 1.0}), 0)
    assert len(before) == len(some) == len(every) == 200
    changed = [two for one, two in zip(before, some, strict=True) if one != two]
    assert 75 <= len(changed) <= 125  # 3.5 standard errors of a half
    openers = tuple(text for texts in OPENERS.values() for text in texts)
    assert all(row.answer.startswith(openers) for row in [*changed, *every])
    assert [row.prompt for row in before] == [row.prompt for row in every]
    assert len({row.id for row in every}) == 200, "ids differ although texts may repeat"
    for row in every:
        known = row.subject if row.subject in OPENERS else None
        assert row.answer.startswith(OPENERS[known])
