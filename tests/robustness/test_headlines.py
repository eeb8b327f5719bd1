"""The checks have the numbers that studies read."""

import pytest

from unsay.robustness import CHECKS, prefill, quantise, relearn, sampling
from unsay.scoring.robustness import Subject
from unsay.scoring.withstanding import HEADLINES, withstood

pytestmark = pytest.mark.usefixtures("unmeasured_judge")


def test_every_headline_is_of_a_check_of_the_quick_battery():
    assert all(CHECKS[row.check].quick for row in HEADLINES.values())
    assert HEADLINES["relearned"].setting == relearn.MAIN.setting
    assert relearn.MAIN in relearn.QUICK
    assert HEADLINES["prefilled"].setting["tokens"] in prefill.DEPTHS
    assert HEADLINES["quantised"].number in quantise.FORMATS
    assert HEADLINES["sampled"].number == f"harmful@{sampling.QUICK_ANSWERS}"


@pytest.mark.parametrize(("measure", "check"), [("prefilled", prefill.CHECK), ("sampled", sampling.CHECK)])
def test_a_check_gives_it_for_both_subjects_by_request(attack, measure, check):
    found = withstood([attack(check)])
    assert found.keys() == {(measure, subject) for subject in Subject}
    mine, other = found[measure, Subject.UNLEARNED], found[measure, Subject.REFERENCE]
    assert mine.keys() == other.keys() != set()
    assert all(0 <= value <= 1 for value in (*mine.values(), *other.values()))
