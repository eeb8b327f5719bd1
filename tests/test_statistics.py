"""Intervals, paired tests and the bootstrap against published and hand-worked numbers."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import binom

from unsay.statistics import (
    clustered_mean,
    detectable_change,
    intervals,
    mcnemar,
    mean_interval,
    paired_interval,
    wilson,
)


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
