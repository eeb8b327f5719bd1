"""Limits: the same rows every time, in the proportions of the whole, and smaller limits inside larger ones."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from unsay.suites import Setting, benign
from unsay.suites.base import order, sample, sample_units

ROWS = st.lists(st.sampled_from("abcd"), min_size=1, max_size=60)


@given(ROWS, st.integers(0, 70))
def test_a_smaller_limit_asks_a_part_of_a_larger_one(strata, limit):
    texts = [f"[request {number}]" for number in range(len(strata))]
    small, large = sample(texts, limit, strata), sample(texts, limit + 1, strata)
    assert set(small) <= set(large)
    assert small == sorted(small)
    assert len(small) == min(limit, len(texts))
    assert sample(texts, None, strata) == list(range(len(texts)))


@given(ROWS, st.integers(1, 70))
def test_strata_get_their_share_to_within_one(strata, limit):
    texts = [f"[request {number}]" for number in range(len(strata))]
    got = Counter(strata[index] for index in sample(texts, limit, strata))
    for stratum, size in Counter(strata).items():
        share = size * min(limit, len(texts)) / len(texts)
        # Webster's method can leave the quota by little more than one with four strata.
        assert abs(got[stratum] - share) < 2


def test_shares_by_hand():
    # Sizes 6, 3 and 1; places (k + ½) ÷ size: a .083 .25 .417 .583 ..., b .167 .5 .833, c .5
    strata = ["a"] * 6 + ["b"] * 3 + ["c"]
    texts = [str(number) for number in range(10)]
    assert [strata[index] for index in order(texts, strata)[:4]] == ["a", "b", "a", "a"]
    assert Counter(strata[index] for index in order(texts, strata)[:6]) == {"a": 3, "b": 2, "c": 1}


@given(st.lists(st.sampled_from(["p", "q", "r", "s"]), max_size=20), st.integers(0, 20))
def test_units_stay_whole(units, limit):
    chosen = sample_units(units, limit, [None] * len(units))
    assert len(chosen) <= limit
    assert not {units[index] for index in chosen} & {units[i] for i in range(len(units)) if i not in chosen}


def test_one_benign_prompt_is_one(tmp_path):
    for limit in (1, 2, 3, 8):
        assert len(benign.BENIGN.prompts(Setting(tmp_path, limit))) == limit
