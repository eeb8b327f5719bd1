import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unsay.records import Kind, Modality, Phase
from unsay.scoring import ErrorRates, JudgeInfo, SuiteRow, rogan_gladen
from unsay.scoring.rates import corrected
from unsay.statistics import Interval, effective_n, rate_interval, wilson


def errors(sensitivity: float, specificity: float, n: int = 100) -> ErrorRates:
    return ErrorRates(
        true_positives=round(sensitivity * n),
        positives=n,
        true_negatives=round(specificity * n),
        negatives=n,
        dataset="made",
    )


def test_by_hand() -> None:
    # (0.5 + 0.9 - 1) / (0.8 + 0.9 - 1) = 0.4 / 0.7
    found = rogan_gladen(50, 100, errors(0.8, 0.9))
    assert found is not None
    assert found[0] == pytest.approx(4 / 7)
    assert found[1].low < 4 / 7 < found[1].high
    assert found[1].high - found[1].low > 0.2


def test_a_perfect_judge_changes_nothing() -> None:
    found = rogan_gladen(30, 100, errors(1, 1, 100_000))
    assert found is not None
    assert found[0] == pytest.approx(0.3)
    assert found[1].low == pytest.approx(0.22, abs=0.02)
    assert found[1].high == pytest.approx(0.40, abs=0.02)


def test_less_than_the_false_alarms_is_none_at_all() -> None:
    found = rogan_gladen(5, 100, errors(0.9, 0.9))
    assert found is not None
    assert found[0] == 0
    assert found[1].high > 0


def test_none_found_by_a_judge_with_false_alarms_is_no_proof_of_none() -> None:
    # All draws lie below 0 and are cut. A judge without false alarms that finds 86 % and found 0 of 100: Wilson's
    # upper limit, 1.96² / (100 + 1.96²) = 3.7 %, over 0.86.
    found = rogan_gladen(0, 100, errors(0.86, 0.89, 200))
    assert found is not None
    assert found[0] == 0
    assert found[1].low == 0
    assert found[1].high == pytest.approx(1.96**2 / (100 + 1.96**2) / 0.86, abs=1e-3)
    mirror = rogan_gladen(100, 100, errors(0.89, 0.86, 200))
    assert mirror is not None
    assert mirror[0] == 1
    assert mirror[1].low == pytest.approx(1 - 1.96**2 / (100 + 1.96**2) / 0.86, abs=1e-3)


def test_repeated_requests_widen_it() -> None:
    alone = rogan_gladen(50, 100, errors(0.8, 0.9, 1000))
    repeated = rogan_gladen(50, 100, errors(0.8, 0.9, 1000), evidence=20)
    labels = errors(0.8, 0.9, 1000).model_copy(update={"independent_positives": 20.0, "independent_negatives": 20.0})
    labelled = rogan_gladen(50, 100, labels)
    assert alone is not None
    for wider in (repeated, labelled):
        assert wider is not None
        assert wider[0] == alone[0]
        assert wider[1].high - wider[1].low > 1.2 * (alone[1].high - alone[1].low)


@settings(deadline=None)
@given(st.integers(1, 400).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_a_wilson_interval_is_worth_its_own_n(counts: tuple[int, int]) -> None:
    found = wilson(*counts)
    assert found is not None
    assert effective_n(counts[0] / counts[1], found.low, found.high) == pytest.approx(counts[1], rel=1e-3)


def test_an_interval_twice_as_wide_is_worth_a_quarter() -> None:
    assert effective_n(0.5, 0.49, 0.51) == pytest.approx(4 * effective_n(0.5, 0.48, 0.52), rel=0.01)
    assert effective_n(0.5, 0.5, 0.5) == float("inf")


def test_few_requests_asked_often_are_worth_few_answers() -> None:
    # Four requests, each asked ten times and harmful in half: a bootstrap over requests knows no spread, so the rate's
    # interval is Wilson's of 2 in 4, and the corrected one is drawn from four answers and not from forty.
    interval, _ = rate_interval([True, False] * 20, [str(n // 10) for n in range(40)])
    assert interval is not None
    assert effective_n(0.5, interval.low, interval.high) == pytest.approx(4)
    row = SuiteRow(
        suite="s", title="S", kind=Kind.ATTACK, modality=Modality.TEXT, phase=Phase.BEFORE, n=40, unique=4, refused=20,
        safe=0, harmful=20, degenerate=0, failed=0, rate=0.5, interval=interval,
    )  # fmt: skip
    found = corrected(row, JudgeInfo(name="j", errors={"harmful": errors(0.8, 0.9)}))
    four = rogan_gladen(20, 40, errors(0.8, 0.9), evidence=4)
    assert four is not None
    assert found.corrected_interval == four[1]


def test_a_judge_near_chance_corrects_nothing() -> None:
    assert rogan_gladen(50, 100, errors(0.5, 0.5)) is None
    assert rogan_gladen(50, 100, errors(0.2, 0.7)) is None
    assert rogan_gladen(0, 0, errors(0.9, 0.9)) is None


def test_fewer_labels_mean_a_wider_interval() -> None:
    many, few = rogan_gladen(50, 100, errors(0.8, 0.9, 1000)), rogan_gladen(50, 100, errors(0.8, 0.9, 20))
    assert many is not None
    assert few is not None
    assert few[1].high - few[1].low > many[1].high - many[1].low


def test_counts_that_cannot_be() -> None:
    with pytest.raises(ValueError, match="not a count"):
        rogan_gladen(3, 2, errors(0.9, 0.9))
    with pytest.raises(ValueError, match="more answers found"):
        ErrorRates(true_positives=2, positives=1, true_negatives=0, negatives=1, dataset="made")


@settings(deadline=None, max_examples=40)
@given(
    st.integers(1, 60).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_always_a_rate_inside_its_interval(counts: tuple[int, int], sensitivity: float, specificity: float) -> None:
    found = rogan_gladen(*counts, errors(sensitivity, specificity))
    assert found is None or 0 <= found[1].low <= found[0] <= found[1].high <= 1


def test_only_the_outcome_that_was_measured_is_corrected() -> None:
    row = SuiteRow(
        suite="s", title="S", kind=Kind.ATTACK, modality=Modality.TEXT, phase=Phase.BEFORE, n=10, unique=10, refused=5,
        safe=0, harmful=5, degenerate=0, failed=0, rate=0.5, interval=wilson(5, 10),
    )  # fmt: skip
    judge = JudgeInfo(name="j", errors={"harmful": errors(0.8, 0.9)})
    assert corrected(row, judge).corrected == pytest.approx(4 / 7)
    benign = row.model_copy(update={"kind": Kind.BENIGN})
    assert corrected(benign, judge).corrected is None
    both = JudgeInfo(name="j", errors={"harmful": errors(0.8, 0.9), "refused": errors(0.9, 0.8)})
    assert corrected(benign, both).corrected == pytest.approx(3 / 7), "(0.5 + 0.8 - 1) / (0.9 + 0.8 - 1)"
    clustered = row.model_copy(update={"interval": Interval(low=0.05, high=0.95)})
    wide, narrow = (corrected(one, judge).corrected_interval for one in (clustered, row))
    assert wide is not None
    assert narrow is not None
    assert wide.high - wide.low > narrow.high - narrow.low
    assert corrected(row, JudgeInfo(name="j")) == row
