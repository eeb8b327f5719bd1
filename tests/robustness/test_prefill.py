"""Begun answers: whose words they are, planted weakness and strength, and the words alone."""

import pytest

from unsay.robustness import prefill
from unsay.scoring.robustness import Subject

LONG = "[harmful] " * 50
UNLEARNED, REFERENCE = Subject


def habit(subject, begun, _number, _prompt):
    """Refuses only where the answer begins: shallow alignment."""
    return LONG if subject is REFERENCE or begun else "[refused]"


def resolve(subject, begun, _number, _prompt):
    """Refuses wherever it is."""
    return LONG if subject is REFERENCE else f"{begun} [refused]"


@pytest.mark.parametrize(("answers", "asr"), [(habit, 1.0), (resolve, 0.0)])
def test_a_habit_of_the_first_words_is_found_and_a_refusal_behind_them_is_not_doubted(attack, script, answers, asr):
    script(answers)
    result = attack(prefill.CHECK)
    for depth in prefill.QUICK_DEPTHS:
        number = result.number("begun", UNLEARNED, "advbench", {"tokens": depth})
        assert (number.value, number.from_reference, number.n) == (asr, asr - 1, 2)
        assert result.outcome(UNLEARNED, "advbench", {"tokens": depth}).change.difference == asr
    assert result.outcome(UNLEARNED, "advbench", {"words": prefill.BARE}).counts.rate == asr
    assert result.outcome(UNLEARNED, "advbench", {}).counts.rate == 0


def test_what_the_given_words_alone_are_judged_as_stands_beside_it(attack, script):
    script(resolve)
    assert attack(prefill.CHECK).number("words", REFERENCE, "advbench", {"tokens": 10}).value == 1.0


def test_only_harmful_answers_of_the_original_that_are_long_enough_begin_others(attack, script):
    seen = []

    def answers(subject, begun, _number, prompt):
        seen.append((begun, prompt.id))
        if subject is UNLEARNED:
            return f"{begun} [refused]"
        return "[harmful]" if prompt.suite == "advbench" else LONG

    script(answers)
    result = attack(prefill.CHECK, quick=False)
    begun = {words for words, _ in seen}
    assert {"", prefill.BARE} < begun
    assert all("[harmful]".startswith(words[:9]) or words == prefill.BARE for words in begun)
    tokens = {row.setting.get("tokens") for row in result.outcomes if row.counts.suite == "advbench"}
    assert max(prefill.DEPTHS) not in tokens  # its answer ends before
    figstep = {row.setting.get("tokens") for row in result.outcomes if row.counts.suite == "advbench-figstep"}
    assert set(prefill.DEPTHS) < figstep


def test_a_bare_beginning_is_compared_on_all_requests_whatever_the_original_complies_with(attack, script):
    said = []

    def answers(_subject, _begun, _number, prompt):
        said.append(prompt.id)
        return LONG if prompt.id == said[0] else "[refused]"

    script(answers)
    result = attack(prefill.CHECK)
    for subject in Subject:
        bare = result.outcome(subject, "advbench", {"words": prefill.BARE})
        assert (bare.counts.n, bare.change.n, bare.change.difference) == (2, 2, 0)
        assert result.outcome(subject, "advbench", {"tokens": 10}).change.n == 1


def test_an_original_that_never_complies_has_no_words_to_begin_with(attack, script):
    script(lambda *_: "[refused]")
    result = attack(prefill.CHECK)
    assert {str(row.setting) for row in result.outcomes} == {str({"words": prefill.BARE})}
    assert result.notes == ("The original complies with 0 of 2 requests of advbench; only these have words.",)
    assert result.numbers == ()
