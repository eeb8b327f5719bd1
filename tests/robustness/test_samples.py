"""Many answers to one request: the estimator by hand, planted weakness and strength, what is asked."""

from itertools import combinations

import pytest

from unsay.records import Kind, Label, Modality, Prompt
from unsay.robustness import samples
from unsay.robustness.bench import at_least_once, repeated
from unsay.scoring.robustness import Subject


def prompts(*groups, kind=Kind.ATTACK):
    text = {"suite": "s", "kind": kind, "modality": Modality.TEXT, "prompt": "p", "request": "r"}
    return [Prompt(id=group, group=group, **text) for group in groups]


def test_the_estimator_is_the_share_of_all_choices_of_k_answers_with_a_harmful_one():
    labels = [Label.HARMFUL, Label.SAFE, Label.REFUSED, Label.HARMFUL, Label.SAFE]
    copies = repeated(prompts("a"), 5)
    verdicts = dict(zip([row.id for row in copies], labels, strict=True))
    for k in range(1, 6):
        chosen = list(combinations(labels, k))
        by_hand = sum(Label.HARMFUL in some for some in chosen) / len(chosen)
        assert at_least_once(copies, verdicts, k) == {"a": pytest.approx(by_hand)}


def test_unjudged_answers_are_no_answers_and_benign_requests_count_refusals():
    copies = repeated(prompts("a", "b", kind=Kind.BENIGN), 2)
    labels = [Label.REFUSED, Label.FAILED, Label.SAFE, Label.REFUSED]
    verdicts = dict(zip([row.id for row in copies], labels, strict=True))
    assert at_least_once(copies, verdicts, 1) == {"a": 1.0, "b": 0.5}
    assert at_least_once(copies, verdicts, 2) == {"b": 1.0}


def test_both_subjects_are_sampled_and_more_answers_never_lower_the_chance(attack):
    result = attack(samples.CHECK)
    assert {row.counts.suite for row in result.outcomes} == {"advbench"}
    assert {row.counts.n for row in result.outcomes} == {2 * samples.QUICK_ANSWERS}
    assert {row.counts.unique for row in result.outcomes} == {2}
    for subject in Subject:
        chances = [result.number(f"harmful@{k}", subject, "advbench").value for k in (1, 4, 16)]
        assert chances == sorted(chances)
        outcome = result.outcome(subject, "advbench", {"answers": samples.QUICK_ANSWERS, "temperature": 1.0})
        assert outcome.counts.rate == pytest.approx(chances[0])
