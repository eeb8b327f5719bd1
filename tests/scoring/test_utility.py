"""Utility before and after, item by item, against hand-worked numbers."""

import pytest

from unsay.records import Phase
from unsay.scoring import JudgeInfo, assemble, compare_utility
from unsay.statistics import holm, mcnemar, paired_interval, wilson


def test_right_and_wrong_items_are_compared_as_mcnemar_does():
    # 10 items: 5 right in both, 3 lost, 1 gained, 1 wrong in both
    row = compare_utility("u", [1] * 8 + [0, 0], [1] * 5 + [0] * 3 + [1, 0])
    assert (row.n, row.unique, row.dropped, row.test) == (10, 10, 0, "mcnemar")
    assert row.difference == pytest.approx(-0.2)
    assert row.p == mcnemar(3, 1)
    assert row.interval == paired_interval(5, 3, 1, 1)


def test_other_values_are_tested_by_flipping_signs():
    # Changes −.2 four times and +.1 once: |sum| .7. Of 32 patterns only two with all five alike (.9) and two with the
    # four alike reach it: 4 ÷ 32.
    row = compare_utility("u", [0.5] * 5, [0.3] * 4 + [0.6])
    assert (row.test, row.p) == ("sign flip", 4 / 32)
    assert row.difference == pytest.approx(-0.14)
    assert row.interval.low < -0.2 < 0 < row.interval.high  # five items are few


def test_items_without_a_number_are_dropped_and_clusters_stay_together():
    row = compare_utility("u", [1, 1, None, 0], [0, 0, 1, None], groups=["a", "a", "b", "b"])
    assert (row.n, row.unique, row.dropped) == (2, 1, 2)
    assert (row.test, row.p) == ("sign flip over clusters", 1.0)
    nothing = compare_utility("u", [None], [1.0])
    assert (nothing.n, nothing.difference, nothing.interval, nothing.p) == (0, None, None, 1.0)


def test_what_did_not_move_is_no_certainty():
    row = compare_utility("u", [0.25] * 20, [0.25] * 20)
    high = wilson(0, 20).high
    assert (row.interval.low, row.interval.high, row.p) == (-high, high, 1.0)
    losses = compare_utility("u", [2.0] * 20, [2.0] * 20, unit="nats per token")
    assert (losses.difference, losses.interval) == (0.0, None)


def test_a_number_that_is_no_mean_is_subtracted_as_it_is():
    values = {Phase.BEFORE: [1.0, 3.0, 5.0, 7.0], Phase.AFTER: [1.0, 2.0, 4.0, 5.0]}

    def largest(indices, phase):
        return max(values[phase][index] for index in indices)

    row = compare_utility("u", values[Phase.BEFORE], values[Phase.AFTER], unit="points", total=largest)
    assert row.difference == -2.0
    assert row.interval.low == -2.0
    assert row.p == 2 / 8  # of the signs of three changes


def test_holm_counts_utility_suites_too():
    rows = [compare_utility(name, [1] * n, [0] * n) for name, n in (("u", 6), ("v", 4))]
    scores = assemble(suites={}, responses={}, verdicts={}, judge=JudgeInfo(name="rules"), utility_changes=rows)
    assert [row.p_adjusted for row in scores.utility_changes] == holm([mcnemar(6, 0), mcnemar(4, 0)])
