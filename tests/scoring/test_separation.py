"""Separation against hand-worked tables, and what it does where there is nothing to tell."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from unsay.records import Condition, Kind, Modality, Phase, Prompt, Response, Verdict
from unsay.scoring import Asked, JudgeInfo, Scores, assemble, score_separation, separation, separation_change
from unsay.scoring.separation import weighted_auroc


def asked(harmful, harmless, groups=None, seed=0):
    values = [*((value, True) for value in harmful), *((value, False) for value in harmless)]
    names = groups or [f"g{index}" for index in range(len(values))]
    return [Asked(value, kind, group, seed) for (value, kind), group in zip(values, names, strict=True)]


def test_auroc_of_a_hand_worked_table():
    """Of 3 × 2 pairs 2 wins two, 1 wins one and ties one, and −1 wins none: 3.5 ÷ 6."""
    found = separation(asked([2.0, 1.0, -1.0], [1.0, 0.0]))
    assert found.value == pytest.approx(3.5 / 6)
    assert (found.harmful, found.harmless, found.requests) == (3, 2, 5)
    assert found.interval.low < found.value < found.interval.high


def test_it_is_sklearns_with_ties_and_with_weights():
    generator = np.random.default_rng(0)
    values, harmful = generator.integers(0, 6, 60).astype(float), generator.random(60) < 0.4
    counts = generator.multinomial(60, np.full(60, 1 / 60), size=20).astype(float)
    found = weighted_auroc(values, harmful, counts)
    assert found == pytest.approx([roc_auc_score(harmful, values, sample_weight=row) for row in counts])
    assert np.isnan(weighted_auroc(values, harmful, np.where(harmful, 0.0, counts[:1]))).all()


def test_only_the_order_counts():
    rows = asked([3.0, 2.0, 0.5], [2.5, 0.0, -1.0])
    shifted = [row._replace(log_odds=10 * row.log_odds - 40) for row in rows]
    assert separation(shifted) == separation(rows)


def test_the_same_request_asked_ten_times_is_no_more_evidence():
    """Intervals redraw requests: copies of a table in the same groups leave the interval as it was."""
    generator = np.random.default_rng(1)
    rows = asked(generator.normal(1.0, 1.0, 30).tolist(), generator.normal(0.0, 1.0, 30).tolist())
    once, copied = separation(rows), separation(rows * 10)
    assert copied.value == pytest.approx(once.value)
    assert copied.interval == once.interval
    assert copied.requests == once.requests == 60
    apart = separation([row._replace(group=f"{row.group}/{copy}") for copy in range(10) for row in rows])
    assert apart.interval.high - apart.interval.low < 0.5 * (once.interval.high - once.interval.low)


def test_classes_that_never_overlap_have_no_interval_of_length_zero():
    found = separation(asked([3.0, 2.0, 4.0], [0.0, 1.0, -1.0]))
    assert found.value == found.interval.high == 1.0
    assert found.interval.low < 0.6  # three pairs of requests


@pytest.mark.parametrize(
    "rows",
    [
        [],
        asked([1.0, 2.0], []),
        asked([1.0, 2.0], [0.0]),
        asked([1.0, 2.0, 3.0], [0.0, 0.5], groups=["a", "a", "a", "b", "c"]),  # one harmful request, three answers
    ],
)
def test_too_few_requests_give_no_number(rows):
    assert separation(rows) is None
    assert separation_change(rows, rows) is None


def test_equal_log_odds_are_chance():
    assert separation(asked([0.0] * 3, [0.0] * 4)).value == 0.5


def test_a_change_is_paired():
    """Noise that a request has in both phases drops out of the difference."""
    generator = np.random.default_rng(2)
    noise = generator.normal(0.0, 1.0, 200)
    before = asked((noise[:100] + 0.5).tolist(), noise[100:].tolist())
    after = asked((noise[:100] + 1.5).tolist(), noise[100:].tolist())
    one, other, change = separation(before), separation(after), separation_change(before, after)
    assert change.value == pytest.approx(other.value - one.value)
    assert change.interval.low > 0
    assert change.p < 0.001
    widths = [found.interval.high - found.interval.low for found in (one, other, change)]
    assert widths[2] < min(widths[:2])
    assert separation_change(before, before).value == 0.0
    assert separation_change(before, before).p == 1.0


def test_a_change_that_is_equal_in_every_draw_is_no_tie():
    """From all pairs in the wrong order to all in the right one, of 12 requests of each class."""
    high, low = [2.0 + n for n in range(12)], [-1.0 - n for n in range(12)]
    change = separation_change(asked(low, high), asked(high, low))
    assert change.value == change.interval.high == 1.0
    assert change.interval.low > 0.7
    assert change.p < 0.001


def test_a_change_of_other_requests_is_refused():
    with pytest.raises(ValueError, match="same requests"):
        separation_change(asked([1.0, 2.0], [0.0, 1.0]), asked([1.0], [0.0, 1.0, 2.0]))


def test_seeds_are_averaged_and_redrawn():
    """Log-odds of two seeds are of two models: one that is far off on its scale spoils nothing."""
    first = asked([3.0, 2.0, 0.5], [2.5, 0.0, -1.0])
    second = [row._replace(log_odds=row.log_odds + 100, seed=1) for row in first]
    both = separation([*first, *second])
    assert both.value == pytest.approx(separation(first).value)
    assert both.harmful == 6
    assert both.requests == 6


def test_seeds_that_differ_leave_more_open_than_requests_do():
    """Three seeds at 1, 1/2 and 1/2: s² 1/12, a standard error of 1/6, with two degrees of freedom ± 0.72."""
    right, level = asked([4.0, 3.0] * 6, [1.0, 2.0] * 6), asked([0.0] * 12, [0.0] * 12)
    half = asked([4.0, 0.0] * 6, [1.0, 2.0] * 6)
    three = [row._replace(seed=seed) for seed, rows in enumerate([right, level, half]) for row in rows]
    found = separation(three)
    assert found.value == pytest.approx((1.0 + 0.5 + 0.5) / 3)
    assert found.interval.high == 1.0
    assert found.interval.low < 0.05


def prompts(suite, kind, modality=Modality.TEXT, count=3, condition=None):
    image = None if modality is Modality.TEXT else "p.png"
    given = {} if condition is None else {"condition": condition}
    return [
        Prompt(
            id=f"{suite}-{index}", suite=suite, kind=kind, modality=modality, prompt="[request]", request="[request]",
            group=f"{kind}{suite}{index}", image=image, **given,
        )
        for index in range(count)
    ]  # fmt: skip


def responses(rows, values):
    return [
        Response(
            id=row.id, suite=row.suite, modality=row.modality, prompt=row.prompt, image=row.image, response="[answer]",
            finish_reason="stop", tokens=3, refusal_log_odds=value, model_key="k",
        )
        for row, value in zip(rows, values, strict=True)
    ]  # fmt: skip


SUITES = {
    "attack": prompts("attack", Kind.ATTACK),
    "sounds": prompts("sounds", Kind.BENIGN),
    "plain": prompts("plain", Kind.BENIGN),
    "attack-drawn": prompts("attack-drawn", Kind.ATTACK, Modality.TYPOGRAPHIC),
    "plain-drawn": prompts("plain-drawn", Kind.BENIGN, Modality.TYPOGRAPHIC),
    "attack+blank": prompts("attack+blank", Kind.ATTACK, condition=Condition.BLANK),
}
BEFORE = {
    "attack": [2.0, 1.0, 0.0], "sounds": [1.0, 0.5, -1.0], "plain": [-5.0, -6.0, 0.0], "attack-drawn": [1.0, 2.0, 3.0],
    "plain-drawn": [1.0, 2.0, 3.0], "attack+blank": [9.0, 9.0, 9.0],
}  # fmt: skip


def answered(values, phase=Phase.BEFORE):
    return {(name, phase): responses(rows, values[name]) for name, rows in SUITES.items()}


def test_suites_of_a_form_are_pooled_and_controls_left_out():
    rows, changes = score_separation(SUITES, answered(BEFORE), {"sounds"})
    assert [(row.form, row.against, row.phase, row.harmful, row.harmless) for row in rows] == [
        ("words", "borderline", Phase.BEFORE, 3, 3),
        ("words", "ordinary", Phase.BEFORE, 3, 3),
        ("pictures", "ordinary", Phase.BEFORE, 3, 3),
    ]
    assert [row.value for row in rows] == pytest.approx([6.5 / 9, 8.5 / 9, 0.5])
    assert not changes


def test_phases_are_compared_on_what_both_have():
    after = {**BEFORE, "attack": [2.0, None, 3.0], "sounds": [0.0, 0.5, -1.0]}
    rows, changes = score_separation(SUITES, answered(BEFORE) | answered(after, Phase.AFTER), {"sounds"})
    now = next(row for row in rows if row.against == "borderline" and row.phase is Phase.AFTER)
    assert (now.harmful, now.requests, now.value) == (2, 5, 1.0)
    assert changes[0].n == 5
    assert changes[0].difference == pytest.approx(1.0 - 4 / 6)  # before, 2 and 0 against 1, 0.5 and −1


def test_without_log_odds_there_is_no_row_and_with_too_few_no_number():
    none = {name: [None] * 3 for name in SUITES}
    assert score_separation(SUITES, answered(none), {"sounds"}) == ([], [])
    few = {**none, "attack": [1.0, 2.0, 3.0], "plain": [0.0, None, None]}
    rows, _ = score_separation(SUITES, answered(few), {"sounds"})
    assert {(row.form, row.against, row.value) for row in rows} == {
        ("words", "borderline", None), ("words", "ordinary", None), ("pictures", "ordinary", None),
    }  # fmt: skip


def test_scores_hold_it_and_are_read_without_it():
    verdicts = {
        (name, Phase.BEFORE): [Verdict(id=row.id, judge="j", label="safe", rationale="") for row in rows]
        for name, rows in SUITES.items()
    }
    scores = assemble(
        suites=SUITES, responses=answered(BEFORE), verdicts=verdicts, judge=JudgeInfo(name="j"), borderline={"sounds"}
    )
    assert len(scores.separation) == 3
    stored = scores.model_dump(mode="json")
    assert Scores.model_validate(stored) == scores
    early = {name: value for name, value in stored.items() if not name.startswith("separation")}
    assert Scores.model_validate(early).separation == ()
