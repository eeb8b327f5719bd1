"""Intervals, paired tests and the bootstrap against published and hand-worked numbers."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom, binomtest, fisher_exact

from unsay.statistics import (
    Interval,
    clustered_change,
    clustered_mean,
    clustered_total,
    detectable_change,
    detectable_difference,
    difference_interval,
    few_seeds,
    holm,
    intervals,
    mcnemar,
    mean_interval,
    paired_interval,
    rate_interval,
    resampled_mean,
    sign_flip,
    significance,
    wilson,
)
from unsay.statistics.significance import fisher_p, power


def test_wilson_matches_newcombes_published_table() -> None:
    # Newcombe 1998, Statistics in Medicine 17:857, table I: 81/263, 15/148, 0/20, 1/29, Wilson without continuity.
    published = {
        (81, 263): (0.2553, 0.3662),
        (15, 148): (0.0624, 0.1605),
        (0, 20): (0.0, 0.1611),
        (1, 29): (0.0061, 0.1718),
    }
    for (successes, n), (low, high) in published.items():
        found = wilson(successes, n)
        assert found is not None
        assert (found.low, found.high) == pytest.approx((low, high), abs=5e-5)


@pytest.mark.parametrize(("successes", "n"), [(0, 20), (1, 29), (15, 148), (20, 20)])
def test_whole_counts_have_scipys_wilson_interval(successes: int, n: int) -> None:
    ours, theirs = wilson(successes, n), binomtest(successes, n).proportion_ci(method="wilson")
    assert ours is not None
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=1e-12)


def test_wilson_of_nothing_is_none() -> None:
    assert wilson(0, 0) is None


@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_wilson_holds_the_rate_and_stays_in_the_unit_interval(case: tuple[int, int]) -> None:
    successes, n = case
    found = wilson(successes, n)
    assert found is not None
    assert 0.0 <= found.low <= successes / n <= found.high <= 1.0
    assert found.high - found.low > 0


def test_mcnemar_by_hand() -> None:
    assert mcnemar(0, 0) == 1.0
    assert mcnemar(5, 0) == pytest.approx(2 * 0.5**5)  # 0.0625: five one-way changes are not enough
    assert mcnemar(6, 0) == pytest.approx(2 * 0.5**6)  # 0.03125
    # 10 against 2 of 12: 2 * (C(12,0) + C(12,1) + C(12,2)) / 2**12 = 2 * 79 / 4096
    assert mcnemar(10, 2) == mcnemar(2, 10) == pytest.approx(158 / 4096)


def test_paired_interval_matches_newcombes_method_10() -> None:
    # Newcombe 1998, Statistics in Medicine 17:2635: 20, 12, 2, 16 of 50, difference 0.2, method 10: 0.0562 to 0.3292.
    found = paired_interval(20, 12, 2, 16)
    assert found is not None
    # Ours is after minus before, the paper's is first minus second.
    assert (-found.high, -found.low) == pytest.approx((0.0562, 0.3292), abs=5e-5)


def test_paired_interval_does_not_collapse_without_changes() -> None:
    found = paired_interval(0, 0, 0, 30)
    assert found is not None
    assert found.low < 0 < found.high
    assert paired_interval(0, 0, 0, 0) is None


@given(*[st.integers(0, 60)] * 4)
def test_paired_interval_holds_the_difference_and_mirrors(a: int, b: int, c: int, d: int) -> None:
    found, mirrored = paired_interval(a, b, c, d), paired_interval(a, c, b, d)
    if a + b + c + d == 0:
        assert found is None
        return
    assert found is not None
    assert mirrored is not None
    difference = (c - b) / (a + b + c + d)
    assert -1 <= found.low <= difference + 1e-12
    assert difference - 1e-12 <= found.high <= 1
    assert (found.low, found.high) == pytest.approx((-mirrored.high, -mirrored.low))


def test_detectable_change_has_the_power_it_claims() -> None:
    assert detectable_change(5) is None
    for n in (6, 50, 260):
        change = detectable_change(n)
        assert change is not None
        # Six one-way changes are significant; the chance to see at least six is 80 %.
        chance = sum(math.comb(n, k) * change**k * (1 - change) ** (n - k) for k in range(6))
        assert 1 - chance == pytest.approx(0.8, abs=1e-6)
    six, fifty = detectable_change(6), detectable_change(50)
    assert six == pytest.approx(0.8 ** (1 / 6))
    assert fifty is not None
    assert fifty < 0.2


def test_bootstrap_mean_is_exact_and_repeatable() -> None:
    first = clustered_mean([1, 0, 0, 1, 1], list("aabbc"), seed=3)
    assert first.value == pytest.approx(0.6)
    assert (first.n, first.clusters) == (5, 3)
    assert first == clustered_mean([1, 0, 0, 1, 1], list("aabbc"), seed=3)
    assert first.interval.low <= 0.6 <= first.interval.high


def test_bootstrap_agrees_with_the_binomial_when_items_stand_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intervals, "DRAWS", 20_000)
    values = [1.0] * 30 + [0.0] * 70
    found = clustered_mean(values, [str(index) for index in range(100)]).interval
    low, high = binom.ppf([0.025, 0.975], 100, 0.3) / 100
    assert (found.low, found.high) == pytest.approx((low, high), abs=0.011)


def test_four_copies_of_each_answer_add_no_certainty() -> None:
    """20,000 rows that are 5,000 texts x 4 pictures know no more than 5,000."""
    values, groups = [1.0] * 12 + [0.0] * 28, [str(index) for index in range(40)]
    alone = clustered_mean(values, groups).interval
    copied = clustered_mean(np.repeat(values, 4).tolist(), np.repeat(groups, 4).tolist()).interval
    naive = clustered_mean(np.repeat(values, 4).tolist(), [str(index) for index in range(160)]).interval
    assert (copied.low, copied.high) == pytest.approx((alone.low, alone.high))
    assert naive.high - naive.low < 0.6 * (copied.high - copied.low)


def test_seeds_that_disagree_widen_the_pooled_interval() -> None:
    groups = [str(index) for index in range(50)] * 3
    seeds = [0] * 50 + [1] * 50 + [2] * 50
    agree = ([1.0] * 10 + [0.0] * 40) * 3
    differ = [0.0] * 50 + [1.0] * 10 + [0.0] * 40 + [1.0] * 20 + [0.0] * 30
    same, apart = clustered_mean(agree, groups, seeds), clustered_mean(differ, groups, seeds)
    assert same.value == apart.value == pytest.approx(0.2)
    assert apart.interval.high - apart.interval.low > 1.3 * (same.interval.high - same.interval.low)


def test_the_interval_of_few_seeds_by_hand() -> None:
    """s² 0.01, v_s 0.01 / 3, v 0.0037333, ν = 1.3938e-5 / (5.5556e-6 + 4.1e-9) = 2.507, t 3.562: ± 3.562 · 0.0611."""
    found = few_seeds(0.5, [0.4, 0.5, 0.6], 0.0004, 40)
    assert (found.error, found.freedom) == pytest.approx((0.0611, 2.507), abs=5e-4)
    assert (found.interval.low, found.interval.high) == pytest.approx((0.5 - 0.2176, 0.5 + 0.2176), abs=5e-4)
    alike = few_seeds(0.5, [0.5, 0.5], 0.0025, 40)  # Student's with 39 degrees of freedom, of the requests alone
    assert (alike.interval.low, alike.interval.high) == pytest.approx(
        (0.5 - 2.0227 * 0.05, 0.5 + 2.0227 * 0.05), abs=1e-4
    )
    assert few_seeds(0.5, [0.5, 0.5], 0.0, 40).interval == Interval(low=0.5, high=0.5)


def test_the_interval_of_three_seeds_that_differ_holds_the_truth_as_often_as_it_says() -> None:
    generator, groups, held = np.random.default_rng(0), [str(index) for index in range(32)] * 3, 0
    for _ in range(200):
        of_seeds = np.repeat(generator.normal(0.0, 0.15, 3), 32)
        differences = of_seeds + np.tile(generator.normal(0.0, 0.2, 32), 3) + generator.normal(0.0, 0.2, 96)
        interval = difference_interval(np.clip(differences, -1, 1).tolist(), groups, np.repeat([0, 1, 2], 32).tolist())
        held += interval.low <= 0 <= interval.high
    assert held >= 186, "93 %; the bootstrap's alone does in 86 %"


@pytest.mark.parametrize("happened", [1, 3, 7])
def test_a_rate_of_few_that_differ_is_no_shorter_than_wilsons(happened: int) -> None:
    """Whatever three equal seeds add: without it, the interval of 3 of 32 ends at 19 %, and Wilson's at 24 %."""
    values, groups = [1.0] * happened + [0.0] * (32 - happened), [str(index) for index in range(32)]
    found = clustered_mean(values * 3, groups * 3, [0] * 32 + [1] * 32 + [2] * 32).interval
    least = wilson(happened, 32)
    assert least is not None
    assert found.low <= least.low
    assert found.high >= least.high


def test_bootstrap_refuses_nothing_and_misfits() -> None:
    with pytest.raises(ValueError, match="no values"):
        clustered_mean([], [])
    with pytest.raises(ValueError, match="do not match"):
        clustered_mean([1.0], ["a", "b"])


def test_mean_interval_picks_wilson_for_independent_yes_no() -> None:
    assert mean_interval([1, 0, 1, 1]) == wilson(3, 4)
    assert mean_interval([]) is None
    spread = mean_interval([1.0, 2.0, 4.0, 9.0])
    assert spread is not None
    assert 1.0 <= spread.low < 4.0 < spread.high <= 9.0


def test_holm_by_hand():
    # Holm's own kind of example: sorted .005 .01 .03 .04 times 4 3 2 1 is .02 .03 .06 .04, and never falls: .06
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([0.7, 0.9]) == [1.0, 1.0]


@given(st.lists(st.floats(0, 1), max_size=8))
def test_holm_never_lowers_a_p(values):
    adjusted = holm(values)
    assert all(p <= a <= 1 for p, a in zip(values, adjusted, strict=True))


def test_fisher_by_hand():
    table = fisher_p(4)
    assert table[4, 0] == pytest.approx(2 / 70)  # 1 ÷ C(8, 4), twice
    assert table[4, 1] == pytest.approx(2 * 4 / 56)
    assert table[2, 2] == pytest.approx(1)
    assert table[3, 1] == table[1, 3]


def test_fisher_is_scipys():
    table = fisher_p(7)
    for first in range(8):
        for second in range(8):
            p = fisher_exact([[first, 7 - first], [second, 7 - second]]).pvalue
            assert table[first, second] == pytest.approx(p, abs=1e-12)


def test_the_smallest_difference_by_hand():
    # Of 4 and 4, only 4 against 0 is below 0.05. From a rate of 1 the first is always 4, so the power is (1 − p)⁴:
    # 80 % at p = 1 − 0.8^¼ = 0.0543, a drop of 0.9457.
    assert power(4, 1.0, 0.0) == pytest.approx(1)
    assert detectable_difference(4, 1.0, rise=False) == pytest.approx(0.8**0.25, abs=1e-6)
    assert detectable_difference(4, 0.0, rise=True) == pytest.approx(0.8**0.25, abs=1e-6)
    assert detectable_difference(3, 1.0, rise=False) is None  # 3 against 0 has p = 0.1
    assert detectable_difference(20, 0.0, rise=False) is None  # there is nothing to fall
    assert detectable_difference(101, 0.5, rise=False) is None  # not small
    assert detectable_difference(0, 0.5, rise=False) is None


def test_more_answers_show_less():
    found = [detectable_difference(n, 0.8, rise=False) for n in (10, 20, 40)]
    assert None not in found
    assert found[0] > found[1] > found[2] > 0


def test_intervals_know_repeats():
    alone = rate_interval([True, False, True, False], ["a", "b", "c", "d"])
    assert alone == (wilson(2, 4), "wilson")
    repeated, method = rate_interval([True] * 8 + [False] * 8, ["a"] * 8 + ["b"] * 8)
    assert method == "clustered bootstrap"
    assert (repeated.low, repeated.high) == (0, 1)  # two requests: both, one or neither is drawn
    # All alike: as many as there are requests, not answers.
    assert rate_interval([True] * 8, ["a"] * 4 + ["b"] * 4) == (wilson(2, 2), "wilson")
    assert rate_interval([False] * 8, ["a"] * 4 + ["b"] * 4) == (wilson(0, 2), "wilson")
    assert rate_interval([], [])[0] is None


def test_a_change_within_one_request_is_one_change():
    # 40 pairs changed, but all of one request: signs come out the same in half of all flips of the single cluster...
    _, p = clustered_change([True] * 40, [False] * 40, ["a"] * 40)
    assert p == pytest.approx(1)  # ...and |sum| is as large in every one of them
    # Six requests, all down: |sum| is as large in 2 of 64 sign patterns, and every pattern is tried.
    _, p = clustered_change([True] * 12, [False] * 12, [str(n // 2) for n in range(12)])
    assert p == 2 / 64


def test_one_request_asked_four_times_is_one_observation():
    # Wilson at ¼ of 1, z = 1.96: middle (¼ + z²/2) ÷ (1 + z²) = .4484, half z √(3/16 + z²/4) ÷ (1 + z²) = .4337
    interval, method = rate_interval([True, False, False, False], ["a"] * 4)
    assert (interval.low, interval.high) == pytest.approx((0.0147, 0.8821), abs=1e-4)
    assert method == "clustered bootstrap"
    assert mean_interval([0.25], ["a"]) == mean_interval([0.25, 0.25], ["a", "a"]) == interval
    assert mean_interval([3.0, 5.0], ["a", "a"]) is None  # no share, and one cluster says nothing of others
    assert clustered_total(lambda items: 7.0, [0, 1, 2], ["a", "b", "c"]) is None


def test_requests_that_are_all_alike_are_no_certainty():
    # 20 requests, each harmful in one of two answers: a bootstrap knows no spread; Wilson at 10 of 20 does.
    groups = [str(n // 2) for n in range(40)]
    interval, _ = rate_interval([True, False] * 20, groups)
    assert interval == wilson(10, 20)


def test_a_change_of_few_requests_is_no_shorter_than_newcombes_for_as_many():
    # One request: its four answers all became harmless. As one pair: Newcombe's of b = 1.
    one = paired_interval(0, 1, 0, 0)
    assert clustered_change([True] * 4, [False] * 4, ["a"] * 4)[0] == one
    assert one.high > -0.6  # one request shows little
    # Nothing moved in 20 answers to five requests: five pairs' interval, and not a point.
    assert clustered_change([False] * 20, [False] * 20, list("abcde") * 4) == (paired_interval(0, 0, 0, 5), 1.0)


def test_a_sign_flip_by_hand():
    # Sums 3, 1 and −1: of 8 sign patterns |±3 ±1 ∓1| ≥ 3 in 6 (3, 5, 1, 3 and their mirrors).
    assert sign_flip([2.0, 1.0, 1.0, -1.0], ["a", "a", "b", "c"]) == 6 / 8
    assert sign_flip([0.0, 0.0], ["a", "b"]) == 1.0
    many = sign_flip([0.1] * 200, [str(n) for n in range(200)])
    assert many == 1 / 20_001


def test_a_number_that_is_no_mean_is_resampled_whole():
    interval = clustered_total(lambda indices: float(len(set(indices))), [0, 1, 2, 3], ["a", "a", "b", "b"])
    assert (interval.low, interval.high) == (2, 4)  # one cluster twice, or both
    assert clustered_total(lambda indices: 1.0, [0, 1], ["a", "a"]) is None


def test_a_sum_over_parts_is_resampled_within_each_of_them():
    # Two parts of two clusters each, the number being the sum of the parts' means: 1 + 0 or .5 + .5 in every draw
    # where both are there. A draw of four clusters from all would miss a part one time in eight, and halve the sum.
    values, parts = [1.0, 1.0, 1.0, 1.0], ["x", "x", "y", "y"]

    def total(indices):
        found = {part: [values[i] for i in indices if parts[i] == part] for part in set(parts)}
        return sum(sum(some) / len(some) for some in found.values() if some)

    clusters = ["a", "b", "c", "d"]
    free = clustered_total(total, [0, 1, 2, 3], clusters)
    assert (free.low, free.high) == (1, 2)
    assert clustered_total(total, [0, 1, 2, 3], clusters, parts) is None  # nothing varies where no part is missed
    values[0] = 0.0
    within = clustered_total(total, [0, 1, 2, 3], clusters, parts)
    assert (within.low, within.high) == (1, 2)  # x: 0, .5 or 1, and y always 1
    alone = clustered_total(total, [0, 1, 2, 3], ["a", "b", "c", "c"], parts)
    assert alone is None  # one cluster of y says nothing of others


def test_many_requests_are_resampled_a_part_at_a_time(monkeypatch):
    values, groups = [float(n % 3 == 0) for n in range(300)], [str(n) for n in range(300)]
    whole = resampled_mean(values, groups)
    monkeypatch.setattr(intervals, "BLOCK", 7 * 300)
    parts = resampled_mean(values, groups)
    assert parts.value == whole.value
    assert (parts.interval.low, parts.interval.high) == pytest.approx(
        (whole.interval.low, whole.interval.high), abs=0.01
    )
    signs = [0.1 * (1 + n % 7) * (-1) ** (n % 3 == 0) for n in range(60)]
    at_once = sign_flip(signs, groups[:60])
    monkeypatch.setattr(significance, "SIGN_BLOCK", 60 * 1001)
    assert sign_flip(signs, groups[:60]) == at_once
