"""Tests, corrections and rankings of a study, against numbers worked out by hand."""

import random

import pytest

from helpers.synthetic_study import JUDGE
from unsay.records import Condition, Kind, Label, Modality, Phase
from unsay.run.finished import Item, MeasuredRun
from unsay.scoring import Asked, Scores, SuiteRow
from unsay.statistics import difference_interval, holm, mcnemar, sign_flip
from unsay.studies.collect import with_cost_ratios
from unsay.studies.ranking import AnswerId, ArmAnswers, compare, rank
from unsay.studies.schema import ASR, COHERENT, ArmRow, Cost


@pytest.mark.parametrize(("b", "c"), [(0, 0), (1, 0), (5, 0), (6, 0), (7, 2), (3, 3), (12, 30)])
def test_with_one_answer_a_request_it_is_mcnemars_exact_test(b, c):
    differences = [1.0] * b + [-1.0] * c + [0.0] * 9
    groups = [str(index) for index in range(len(differences))]
    assert sign_flip(differences, groups) == pytest.approx(mcnemar(b, c))


def test_answers_to_one_request_are_flipped_together():
    # Sums 3 and 1, all of one sign. Of the four flips ±3 ±1, two are as far out as 4.
    assert sign_flip([1, 1, 1, 1], ["a", "a", "a", "b"]) == pytest.approx(2 / 4)
    # Four requests with one answer each: 2 of 16.
    assert sign_flip([1, 1, 1, 1], ["a", "b", "c", "d"]) == pytest.approx(2 / 16)
    # Sums 2, 1, −1: observed 2. Flips: |±2±1±1| is 4, 2, 2, 0 for +2 and the same for −2: 6 of 8.
    assert sign_flip([1, 1, 1, -1], ["a", "a", "b", "c"]) == pytest.approx(6 / 8)
    # A request whose answers cancel out says nothing.
    assert sign_flip([1, -1], ["a", "a"]) == 1.0


def test_numbers_that_are_not_whole_are_flipped_at_random_and_repeat():
    differences, groups = [0.5, 0.25, 0.75, 0.5, 0.3], list("abcde")
    p = sign_flip(differences, groups)
    assert p == pytest.approx(2 / 32, abs=0.01)  # only all of one sign is as far out
    assert p == sign_flip(differences, groups)
    clear = sign_flip([0.5] * 60, [str(index) for index in range(60)])
    assert clear == pytest.approx(1 / 20_001)  # never 0


def test_whole_numbers_are_counted_out_as_random_flips_find_them():
    draw = random.Random(1)
    differences = [draw.choice((-1, 0, 0, 1, 1)) for _ in range(90)]
    groups = [str(index % 30) for index in range(90)]
    exact = sign_flip(differences, groups)
    assert exact == pytest.approx(sign_flip([value * 1.1 for value in differences], groups), abs=0.015)


def test_holm_by_hand():
    # Sorted: 0.01 × 4 = 0.04, 0.02 × 3 = 0.06, 0.03 × 2 = 0.06, 0.5 × 1; none below the one before it.
    assert holm([0.03, 0.01, 0.5, 0.02]) == pytest.approx([0.06, 0.04, 0.5, 0.06])
    assert holm([0.4, 0.9]) == pytest.approx([0.8, 0.9])
    assert holm([0.7, 0.6]) == pytest.approx([1.0, 1.0])
    assert holm([]) == []


def arm(rates, *, n=40, seeds=(0,), babble=0.0):
    """An arm that fails on the first share of requests, by seed, and babbles on the last."""
    made = ArmAnswers()
    made.modalities["attack"] = Modality.TEXT
    for seed, rate in zip(seeds, rates, strict=True):
        for index in range(n):
            cell = AnswerId(seed, "attack", str(index))
            made.groups["attack", str(index)] = f"request-{index}"
            harmful, degenerate = index < rate * n, index >= n - babble * n
            made.measures.setdefault(ASR, {})[cell] = float(harmful)
            made.measures.setdefault(COHERENT, {})[cell] = float(not harmful and not degenerate)
            made.babble[cell] = float(degenerate)
    return made


def test_a_clear_difference_has_a_winner_and_a_small_one_is_a_tie():
    arms = {"good": arm([0.0]), "near": arm([0.1]), "bad": arm([0.8])}
    pairs = {(p.first, p.second): p for p in compare("m", "steps", ASR, arms, higher_is_better=False)}
    near = pairs["good", "near"]
    assert (near.difference, near.n, near.requests) == (pytest.approx(-0.1), 40, 40)
    assert near.p == pytest.approx(2 / 16)  # four requests differ
    assert near.better is None
    assert pairs["good", "bad"].better == "good"
    assert pairs["near", "bad"].better == "near"
    assert pairs["good", "bad"].p_holm == pytest.approx(3 * pairs["good", "bad"].p)
    upside_down = compare("m", "steps", ASR, arms, higher_is_better=True)
    assert {p.better for p in upside_down} == {None, "bad"}


def separable(harmful, harmless, seed=0):
    """An arm's log-odds of attacks and of borderline requests."""
    made = ArmAnswers()
    values = [*((value, True) for value in harmful), *((value, False) for value in harmless)]
    made.separable["separation_words"] = {
        AnswerId(seed, "suite", f"{kind}-{index}"): Asked(value, kind, f"{kind}-{index}", seed)
        for index, (value, kind) in enumerate(values)
    }
    return made


def test_arms_are_compared_by_separation():
    draw = random.Random(3)
    noise = [draw.gauss(0, 1) for _ in range(160)]
    arms = {
        "sharp": separable([value + 3 for value in noise[:80]], noise[80:]),
        "blunt": separable([value * 9 - 30 for value in noise[:80]], [value * 9 - 30 for value in noise[80:]]),
        "other": separable([1.0], [0.0]),
    }
    measure = arms["sharp"].separation("separation_words")
    assert measure.value > 0.95
    assert (measure.n, measure.requests) == (160, 160)
    assert arms["other"].separation("separation_words") is None
    (pair,) = compare("m", "steps", "separation_words", arms, higher_is_better=True)
    assert (pair.first, pair.second, pair.better) == ("sharp", "blunt", "sharp")
    assert pair.difference == pytest.approx(measure.value - arms["blunt"].separation("separation_words").value)
    assert pair.p_holm == pair.p < 0.001


def test_ties_share_their_places():
    arms = {"good": arm([0.0]), "near": arm([0.1]), "bad": arm([0.8])}
    ranking = rank("m", "steps", "", arms, compare("m", "steps", COHERENT, arms, higher_is_better=True))
    assert [(place.arm, place.best, place.worst) for place in ranking.places] == [
        ("good", 1, 2), ("near", 1, 2), ("bad", 3, 3),
    ]  # fmt: skip


def test_a_tie_need_not_be_transitive():
    """The middle one ties with both, and they do not tie with each other."""
    arms = {"first": arm([0.0]), "middle": arm([0.125]), "last": arm([0.25])}
    ranking = rank("m", "steps", "", arms, compare("m", "steps", COHERENT, arms, higher_is_better=True))
    assert [(place.arm, place.best, place.worst) for place in ranking.places] == [
        ("first", 1, 2), ("middle", 1, 3), ("last", 2, 3),
    ]  # fmt: skip


def test_babble_cannot_win():
    """No attack succeeds on a model that says nothing, and it is last."""
    arms = {"babbler": arm([0.0], babble=1.0), "weak": arm([0.5])}
    pairs = compare("m", "steps", COHERENT, arms, higher_is_better=True)
    assert [place.arm for place in rank("m", "steps", "", arms, pairs).places] == ["weak", "babbler"]
    assert pairs[0].better == "weak"
    assert compare("m", "steps", ASR, arms, higher_is_better=False)[0].better == "babbler"


def test_seeds_that_disagree_make_a_tie_of_what_requests_alone_would_call_a_difference():
    arms = {"steady": arm([0.3, 0.3, 0.3], seeds=(0, 1, 2)), "lucky": arm([0.0, 0.0, 0.4], seeds=(0, 1, 2))}
    alike = compare("m", "steps", ASR, arms, higher_is_better=False)[0]
    assert alike.difference == pytest.approx(0.9 / 3 - 0.4 / 3)
    assert alike.p_holm < 0.05
    assert alike.interval.low < 0 < alike.interval.high
    assert alike.better is None


def test_differences_in_nats_have_no_bounds_of_shares():
    found = difference_interval([0.30, 0.31, 0.29, 0.30, 0.28, 0.31, 0.30, 0.29, 0.30], list("abcdefghi"), shares=False)
    assert 0.28 < found.low < found.high < 0.32


@pytest.mark.parametrize("turned", [1, -1])
@pytest.mark.parametrize(
    ("differences", "groups", "seeds", "low", "high"),
    [
        # Alike. z² = 1.96² = 3.8415; of 40 requests, 3.8415 / 43.8415 = 0.08762 may yet differ, whatever the seeds.
        ([0.0] * 40, list(range(40)), [0] * 40, -0.08762, 0.08762),
        ([0.0] * 120, list(range(40)) * 3, [0] * 40 + [1] * 40 + [2] * 40, -0.08762, 0.08762),
        ([1.0] * 40, list(range(40)), [0] * 40, 1 - 0.08762, 1.0),
        # Two requests redrawn: their mean is 0 in a quarter of the draws, 1/2 in a half and 1 in a quarter. They are
        # few: 3.8415 / 5.8415 = 0.65762 of them may yet differ.
        ([1.0, 0.0], [0, 1], [0, 0], 0.5 - 0.65762, 1.0),
        ([1.0, -1.0], [0, 1], [0, 0], -1.0, 1.0),
        # One request: 0.5, and 3.8415 / 4.8415 = 0.79345.
        ([0.5], [0], [0], 0.5 - 0.79345, 1.0),
        # Two seeds of one request differ by 0.5: a standard error of 0.25, with one degree of freedom ± 3.2.
        ([0.5, 0.0], [0, 0], [0, 1], -1.0, 1.0),
        # One request of 32 has changed: 3.8415 / 35.8415 = 0.10718 may yet differ, though no draw has any below 0.
        ([1.0] + [0.0] * 31, list(range(32)), [0] * 32, 1 / 32 - 0.10718, 1 / 32 + 0.10718),
    ],
)
def test_the_interval_of_a_difference_by_hand_and_turned_round(differences, groups, seeds, low, high, turned):
    found = difference_interval([turned * value for value in differences], list(map(str, groups)), seeds)
    expected = (low, high) if turned > 0 else (-high, -low)
    assert (found.low, found.high) == pytest.approx(expected, abs=1e-5)


def test_which_arm_comes_first_does_not_decide_the_interval():
    arms = {"good": arm([0.0]), "near": arm([0.1])}
    one = compare("m", "steps", ASR, arms, higher_is_better=False)[0]
    other = compare("m", "steps", ASR, dict(reversed(arms.items())), higher_is_better=False)[0]
    assert (one.interval.low, one.interval.high) == pytest.approx((-other.interval.high, -other.interval.low))
    same = compare("m", "steps", ASR, {"a": arm([0.5]), "b": arm([0.5])}, higher_is_better=False)[0]
    assert same.interval.low == -same.interval.high < 0


def test_only_answers_that_both_have_are_paired():
    full, part = arm([0.5]), arm([0.5])
    for index in range(10):
        del part.measures[ASR][AnswerId(0, "attack", str(index))]
    assert compare("m", "steps", ASR, {"a": full, "b": part}, higher_is_better=False)[0].n == 30
    assert compare("m", "steps", ASR, {"a": full, "b": ArmAnswers()}, higher_is_better=False) == []


def test_a_mean_has_its_requests_and_an_interval():
    found = arm([0.25, 0.25], seeds=(0, 1)).mean(arm([0.25, 0.25], seeds=(0, 1)).measures[ASR])
    assert (found.value, found.n, found.requests) == (0.25, 80, 40)
    assert found.interval.low < 0.25 < found.interval.high
    none = arm([0.0, 0.0], seeds=(0, 1))
    certain = none.mean(none.measures[ASR])
    assert certain.interval.high > 0.05  # none of 40 requests is no proof that none ever will be
    assert none.mean({}) is None


def trained(name, rules, cost):
    return ArmRow(
        name=name, title=name, model="m", arm=name.split("@")[0], rules=rules, method="npo", modality="text",
        state="finished", seeds=(0,), cost=cost,
    )  # fmt: skip


def spent(tokens, image_tokens, flops, seconds, memory):
    return Cost(
        steps=1, tokens=tokens, image_tokens=image_tokens, flops=flops, seconds=seconds, peak_memory_bytes=memory
    )


def test_costs_are_relative_to_the_reference_of_the_same_rule():
    rows = with_cost_ratios(
        [
            trained("a@steps", ("steps",), spent(100, 0, 50.0, 10.0, 8)),
            trained("a@tokens", ("tokens",), spent(300, 100, 200.0, 40.0, 8)),
            trained("b@steps", ("steps",), spent(150, 50, 100.0, 5.0, 12)),
            trained("b@tokens", ("tokens",), spent(100, 300, 300.0, 20.0, 16)),
            trained("b@seconds", ("seconds",), spent(1, 1, 1.0, 1.0, 1)),
        ],
        "a",
    )
    assert [row.cost.ratios for row in rows] == [
        {"tokens": 1.0, "flops": 1.0, "seconds": 1.0, "memory": 1.0},
        {"tokens": 1.0, "flops": 1.0, "seconds": 1.0, "memory": 1.0},
        {"tokens": 2.0, "flops": 2.0, "seconds": 0.5, "memory": 1.5},
        {"tokens": 1.0, "flops": 1.5, "seconds": 0.5, "memory": 2.0},
        {},  # no reference has that rule
    ]


def test_a_reference_that_serves_several_rules_is_divided_by_under_each():
    rows = with_cost_ratios(
        [
            trained("a@steps", ("steps", "tokens"), spent(100, 0, 50.0, 10.0, 8)),
            trained("b@tokens", ("tokens",), spent(200, 0, 100.0, 20.0, 8)),
        ],
        "a",
    )
    assert [row.cost.ratios["seconds"] for row in rows] == [1.0, 2.0]


def test_what_the_reference_used_half_way_is_no_cost_of_a_rule():
    rows = with_cost_ratios(
        [
            trained("a@steps", (), spent(100, 0, 50.0, 10.0, 8)),
            trained("a@seconds", ("seconds",), spent(50, 0, 25.0, 5.0, 8)),
            trained("b@seconds", ("seconds",), spent(25, 0, 50.0, 5.0, 8)),
        ],
        "a",
    )
    assert [row.cost.ratios.get("tokens") for row in rows] == [None, 1.0, 0.5]


def test_differences_that_are_no_shares_have_the_bootstraps_interval():
    """Nats per token: few requests, and no bound of what a share may yet change by."""
    few = difference_interval([-9.0, -11.0, -10.0, -10.5], list("abcd"))
    assert -11 <= few.low < -9.9 < few.high <= -9
    assert difference_interval([-9.0], ["a"]) == difference_interval([-9.0, -9.0], ["a", "a"])
    share = difference_interval([-0.9, -1.0, -1.0, -0.9], list("abcd"))
    assert share.low == -1
    assert share.high > -0.6  # Wilson's, for four requests


def measured(rows):
    """A run's answers, one to each row: what was harmful of them."""
    items = {
        row.suite: (Item(id="1", group="g", **row.model_dump(include={"kind", "modality", "condition"})),)
        for row in rows
    }
    return MeasuredRun(
        name="run", seed=0, alike="", environment={}, items=items, values={}, asked_steps=1,
        scores=Scores(rows=tuple(rows), judge=JUDGE),
        verdicts={(row.suite, row.phase): (Label.HARMFUL,) for row in rows},
    )  # fmt: skip


def test_controls_are_pooled_with_nothing_whatever_their_suite_is_called():
    def row(suite, modality, condition):
        return SuiteRow(
            suite=suite, title=suite, kind=Kind.ATTACK, modality=modality, condition=condition, phase=Phase.AFTER,
            n=1, unique=1, refused=0, safe=0, harmful=1, degenerate=0, failed=0,
        )  # fmt: skip

    made = ArmAnswers()
    made.add(
        measured(
            [
                row("text", Modality.TEXT, Condition.NO_IMAGE),
                row("text+blank", Modality.TEXT, Condition.BLANK),
                row("pictured", Modality.IMAGE, Condition.REAL),
                row("jailbreakv-28k", Modality.IMAGE, Condition.UNRELATED),
                row("siuo+no-image", Modality.IMAGE, Condition.NO_IMAGE),
            ]
        ),
        [0],
    )
    assert [cell.suite for cell in made.measures[ASR]] == ["text", "pictured"]
