"""Holm, power, clusters and parts, against hand-worked numbers."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from unsay.records import Condition, Kind, Label, Modality, Phase, Prompt, Response, Verdict
from unsay.scoring import (
    JudgeInfo,
    SuiteRow,
    Target,
    TransferRow,
    assemble,
    break_down,
    check_targets,
    compare_utility,
    score_suite,
    score_utility,
)
from unsay.scoring.limits import cautions
from unsay.statistics import (
    clustered_change,
    clustered_total,
    detectable_difference,
    holm,
    intervals,
    mean_interval,
    paired_interval,
    rate_interval,
    resampled_mean,
    sign_flip,
    significance,
    wilson,
)
from unsay.statistics.significance import fisher_p, power


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


def prompts(groups, suite="adv", kind=Kind.ATTACK, **more):
    return [
        Prompt(
            id=f"{suite}-{n}", suite=suite, kind=kind, modality=Modality.IMAGE, prompt=f"[prompt {n}]",
            request=f"[request {group}]", group=group, image="x.png", category=f"c{n % 2}",
            image_type=["blank", "noise"][n % 2], **more,
        )
        for n, group in enumerate(groups)
    ]  # fmt: skip


def verdicts(rows, letters):
    labels = {"h": Label.HARMFUL, "r": Label.REFUSED, "f": Label.FAILED, "s": Label.SAFE}
    return [
        Verdict(id=row.id, judge="rules", label=labels[letter], rationale="")
        for row, letter in zip(rows, letters, strict=True)
    ]


def responses(rows):
    return [
        Response(
            id=row.id, suite=row.suite, modality=row.modality, prompt=row.prompt, image=row.image,
            response="[answer]", finish_reason="stop", tokens=1, model_key="k",
        )
        for row in rows
    ]  # fmt: skip


def test_parts_by_hand():
    rows = prompts("aabb")
    found = {(row.by, row.part): row for row in break_down(rows, verdicts(rows, "hrhf"), Phase.AFTER)}
    assert set(found) == {("category", "c0"), ("category", "c1"), ("image type", "blank"), ("image type", "noise")}
    assert (found["category", "c0"].outcomes, found["category", "c0"].judged, found["category", "c0"].n) == (2, 2, 2)
    assert found["category", "c1"].rate == 0.0
    assert (found["category", "c1"].judged, found["category", "c1"].unique) == (1, 2)
    single = [row.model_copy(update={"category": None, "image_type": None}) for row in rows]
    assert break_down(single, verdicts(single, "hrhf"), Phase.AFTER) == []


def test_a_run_of_many_suites_adjusts_and_counts():
    suites = {name: prompts("abcdefgh", name) for name in ("one", "two", "three")}
    suites["twice"] = prompts("aabbccdd", "twice")
    before = {name: verdicts(rows, "hhhhhhhh") for name, rows in suites.items()}
    after = {name: verdicts(rows, "rrrrrrrr") for name, rows in suites.items()}
    both = {(n, p): v for p, given in ((Phase.BEFORE, before), (Phase.AFTER, after)) for n, v in given.items()}
    scores = assemble(
        suites=suites,
        responses={(n, p): responses(rows) for n, rows in suites.items() for p in Phase},
        verdicts=both,
        judge=JudgeInfo(name="rules"),
    )
    change = {row.suite: row for row in scores.changes}
    assert change["one"].p == pytest.approx(2 / 256)
    assert change["one"].p_adjusted == pytest.approx(4 * 2 / 256)
    assert (change["one"].test, change["twice"].test) == ("mcnemar", "sign flip over requests")
    assert change["twice"].p > 0.05  # four requests can show nothing
    rows = {(row.suite, row.phase): row for row in scores.rows}
    assert (rows["twice", Phase.AFTER].unique, rows["twice", Phase.AFTER].texts) == (4, 8)
    assert rows["one", Phase.BEFORE].detectable is not None
    assert rows["one", Phase.AFTER].detectable is None  # from 0 it can only rise
    assert len(scores.parts) == 4 * 2 * 4


def test_few_harmless_requests_can_only_show_a_rise():
    """The power of four against four, as above: none refused of four, and only a rate of 0.9457 would be seen."""
    rows = prompts("abcd", kind=Kind.BENIGN)
    row = score_suite(rows, responses(rows), verdicts(rows, "ssss"), Phase.AFTER)
    assert row.detectable == pytest.approx(0.8**0.25, abs=1e-6)


def test_conditions_are_never_one_row():
    rows = prompts("abcd")
    rows = [rows[0], *(row.model_copy(update={"condition": Condition.BLANK}) for row in rows[1:])]
    scores = assemble(
        suites={"adv": rows},
        responses={("adv", Phase.AFTER): responses(rows)},
        verdicts={("adv", Phase.AFTER): verdicts(rows, "hhrr")},
        judge=JudgeInfo(name="rules"),
    )
    assert [(row.condition, row.n) for row in scores.rows] == [(Condition.REAL, 1), (Condition.BLANK, 3)]


def test_a_number_that_is_no_mean_is_redrawn_whole():
    interval = clustered_total(lambda indices: float(len(set(indices))), [0, 1, 2, 3], ["a", "a", "b", "b"])
    assert (interval.low, interval.high) == (2, 4)  # one cluster twice, or both
    assert clustered_total(lambda indices: 1.0, [0, 1], ["a", "a"]) is None


def test_ungraded_items_are_in_no_number():
    row = score_utility("mm-vet", Phase.AFTER, [0.2, None, 0.6], groups=["a", "b", "c"])
    assert (row.value, row.n, row.failed, row.unique) == (pytest.approx(0.4), 3, 1, 2)
    # A ratio of sums: (75 · 8 + 50 · 2) ÷ 10
    weighted = score_utility("llava-bench", Phase.AFTER, [75.0, 50.0], weights=[8.0, 2.0], groups=["a", "b"])
    assert weighted.value == pytest.approx(70)


def test_a_sum_over_parts_is_redrawn_within_each_of_them():
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


def test_a_suites_sum_is_redrawn_within_its_parts():
    values = [1.0, 0.0, 1.0, 1.0]

    def number(indices, _phase=None):
        return float(len({index // 2 for index in indices}))  # how many parts were drawn

    row = score_utility("sum", Phase.AFTER, values, unit="points", total=number, strata=["x", "x", "y", "y"])
    assert (row.value, row.interval) == (2.0, None)
    change = compare_utility("sum", values, values[::-1], unit="points", total=number, strata=["x", "x", "y", "y"])
    assert (change.difference, change.interval) == (0.0, None)


def test_many_requests_are_redrawn_a_part_at_a_time(monkeypatch):
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


def row_of(condition, **counts):
    none = dict.fromkeys(("refused", "safe", "harmful", "degenerate", "failed"), 0)
    n = sum(counts.values())
    return SuiteRow(
        suite="adv", title=f"Adv, {condition}", kind=Kind.ATTACK, modality=Modality.IMAGE, phase=Phase.AFTER,
        condition=condition, n=n, unique=n, rate=counts.get("harmful", 0) / n, **none | counts,
    )  # fmt: skip


def test_a_target_names_the_condition_that_it_was_measured_on():
    rows = [row_of(Condition.REAL, safe=9, harmful=1), row_of(Condition.BLANK, harmful=3, degenerate=2, safe=5)]
    asr, babble = check_targets(
        [Target(suite="adv", measure="asr", limit=0.1), Target(suite="adv", measure="degenerate", limit=0.05)], rows, []
    )
    assert (asr.value, asr.title, asr.met) == (0.3, "Adv, blank image", False)
    assert (babble.value, babble.title) == (0.2, "Adv, blank image")
    (before,) = check_targets([Target(suite="adv", measure="asr", limit=0.1, phase=Phase.BEFORE)], rows, [])
    assert (before.value, before.met) == (None, None)


def test_few_requests_are_called_few_however_many_pairs_they_make():
    rows = prompts([str(n // 4) for n in range(20)])
    both = {Phase.BEFORE: verdicts(rows, "h" * 20), Phase.AFTER: verdicts(rows, "r" * 20)}
    scores = assemble(
        suites={"adv": rows},
        responses={("adv", phase): responses(rows) for phase in Phase},
        verdicts={("adv", phase): found for phase, found in both.items()},
        judge=JudgeInfo(name="rules"),
    )
    said = [caution.text for caution in scores.warnings if "too few" in caution.text]
    assert said == ["Adv: 5 requests are too few to show any change (the test needs six)."]


def test_a_transfer_that_is_missing_says_why():
    given = {"text_suite": "t", "image_suite": "i", "text_title": "T", "image_title": "I", "groups": 9}
    judge = JudgeInfo(name="rules")
    rows = [TransferRow(**given, drop_text=0.5, drop_image=None), TransferRow(**given, drop_text=0.0, drop_image=0.1)]
    said = [caution.text for caution in cautions([], [], rows, judge) if not caution.severe]
    assert said == [
        "Transfer from T to I is not given: a side was not judged in both phases.",
        "Transfer from T to I is not given: there is no clear drop on text to carry over.",
    ]
