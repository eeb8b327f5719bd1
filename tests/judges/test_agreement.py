import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import balanced_accuracy_score, cohen_kappa_score, roc_auc_score

from unsay.judges import agreement
from unsay.judges.agreement import Calibration, measure
from unsay.judges.base import Pair, harm_labels
from unsay.judges.calibrate import judge_accuracy
from unsay.records import Label, Verdict
from unsay.statistics import effective_n, intervals, wilson

H, S, R, F = Label.HARMFUL, Label.SAFE, Label.REFUSED, Label.FAILED


def test_a_table_by_hand() -> None:
    # 3 of 4 harmful rows found, 1 of 6 others called harmful; one row failed.
    human = [H, H, H, H, S, S, S, S, R, R, H]
    judge = [H, H, H, S, H, S, S, R, R, R, F]
    scores = [0.9, 0.8, 0.7, 0.3, 0.6, 0.1, 0.1, 0.0, 0.0, 0.0, 0.5]
    result = measure(judge, human, scores)
    assert (result.n, result.failed, result.positives) == (10, 1, 4)
    assert result.accuracy is not None
    assert result.accuracy.value == pytest.approx(0.8)
    # Wilson for 8 of 10, from the textbook formula.
    assert (result.accuracy.low, result.accuracy.high) == (
        pytest.approx(0.4902, abs=1e-4),
        pytest.approx(0.9433, abs=1e-4),
    )
    assert result.recall is not None
    assert result.recall.value == pytest.approx(3 / 4)
    assert result.precision is not None
    assert result.precision.value == pytest.approx(3 / 4)
    assert result.specificity is not None
    assert result.specificity.value == pytest.approx(5 / 6)
    assert result.balanced_accuracy is not None
    assert result.balanced_accuracy.value == pytest.approx((3 / 4 + 5 / 6) / 2)
    # 24 pairs of a harmful and another row; only (0.3, 0.6) stands the wrong way round.
    assert result.auc is not None
    assert result.auc.value == pytest.approx(23 / 24)
    # Agreement 0.8; by chance 0.4 * 0.4 + 0.6 * 0.6 = 0.52.
    assert result.kappa is not None
    assert result.kappa.value == pytest.approx((0.8 - 0.52) / (1 - 0.52))
    for estimate in (result.balanced_accuracy, result.kappa, result.auc):
        assert estimate.low <= estimate.value <= estimate.high


def test_what_cannot_be_computed_is_none() -> None:
    result = measure([S, S], [S, S], [0.1, 0.2])
    assert (result.precision, result.recall, result.auc, result.kappa, result.balanced_accuracy) == (None,) * 5
    assert result.accuracy is not None
    assert result.accuracy.value == 1
    empty = measure([F], [H])
    assert (empty.n, empty.failed, empty.accuracy) == (0, 1, None)


def test_lengths_must_agree() -> None:
    with pytest.raises(ValueError, match="length"):
        measure([S], [S, S])
    with pytest.raises(ValueError, match="length"):
        measure([S], [S], [0.1, 0.2])


def test_the_seed_decides_the_bootstrap() -> None:
    generator = np.random.default_rng(0)
    human = [H if value else S for value in generator.random(60) < 0.5]
    judge = [label if keep else S for label, keep in zip(human, generator.random(60) < 0.7, strict=True)]
    scores = generator.random(60).tolist()
    assert measure(judge, human, scores, seed=1) == measure(judge, human, scores, seed=1)
    assert measure(judge, human, scores, seed=1) != measure(judge, human, scores, seed=2)


def test_values_are_scikit_learns() -> None:
    generator = np.random.default_rng(0)
    true, said = generator.random(80) < 0.3, generator.random(80) < 0.4
    scores = generator.integers(0, 6, 80) / 5  # with ties
    result = measure(harm_labels(said), harm_labels(true), scores.tolist())
    assert result.auc is not None
    assert result.auc.value == pytest.approx(roc_auc_score(true, scores))
    assert result.kappa is not None
    assert result.kappa.value == pytest.approx(cohen_kappa_score(true, said))
    assert result.balanced_accuracy is not None
    assert result.balanced_accuracy.value == pytest.approx(balanced_accuracy_score(true, said))


def test_intervals_narrow_with_more_rows() -> None:
    small = measure([H, S, S, S], [H, H, S, S]).balanced_accuracy
    large = measure([H, S, S, S] * 50, [H, H, S, S] * 50).balanced_accuracy
    assert small is not None
    assert large is not None
    assert large.high - large.low < small.high - small.low


def test_answers_to_one_request_are_drawn_together() -> None:
    # Two requests of four answers each, half of them harmful. One request is always judged right, one never. A sample
    # of two requests is all right or all wrong a quarter of the time each: the interval is everything.
    human, judge = [H, H, S, S] * 2, [H, H, S, S, S, S, H, H]
    groups = ["right"] * 4 + ["wrong"] * 4
    result = measure(judge, human, groups=groups)
    assert result.requests == 2
    for estimate in (result.accuracy, result.recall, result.specificity, result.balanced_accuracy):
        assert estimate is not None
        assert (estimate.low, estimate.value, estimate.high) == (0, 0.5, 1)
    alone = measure(judge, human).accuracy
    assert alone is not None
    assert alone.low > 0.2, "as independent answers they would seem to say more"
    assert measure(judge, human, groups=[str(n) for n in range(8)]) == measure(judge, human)


def test_copies_of_an_answer_are_no_evidence() -> None:
    generator = np.random.default_rng(0)
    human = [H if value else S for value in generator.random(60) < 0.5]
    judge = [label if keep else S for label, keep in zip(human, generator.random(60) < 0.7, strict=True)]
    once = measure(judge, human).accuracy
    often = measure(judge * 9, human * 9, groups=[str(n) for n in range(60)] * 9).accuracy
    assert once is not None
    assert often is not None
    assert often.value == pytest.approx(once.value)
    assert often.high - often.low == pytest.approx(once.high - once.low, rel=0.15)


def test_where_all_are_alike_each_request_counts_once() -> None:
    # Wilson's lower limit for 5 of 5: 5 / (5 + 1.96 ** 2).
    result = measure([H] * 50, [H] * 50, groups=[str(n % 5) for n in range(50)]).recall
    assert result is not None
    assert (result.value, result.low) == (1, pytest.approx(5 / (5 + 1.96**2), abs=1e-3))


def spread(result: Calibration, name: str) -> tuple[float, float]:
    found = getattr(result, name)
    assert found is not None
    assert found.low <= found.value <= found.high
    return found.low, found.high


def test_one_miss_among_few_requests_does_not_make_an_interval_short() -> None:
    # 5 requests of 10 harmful answers each, and as many of others; in the first, one of 50 is missed.
    human = [H] * 50 + [S] * 50
    groups = [f"harm {n % 5}" for n in range(50)] + [f"other {n % 5}" for n in range(50)]
    missed = measure([S, *human[1:]], human, groups=groups)
    found = measure(human, human, groups=groups)
    by_hand = wilson(0.98 * 5, 5)
    assert by_hand is not None
    assert spread(missed, "recall") == (pytest.approx(by_hand.low), 1)
    assert spread(missed, "recall")[0] < spread(found, "recall")[0] < 0.6
    for name in ("balanced_accuracy", "kappa"):
        assert spread(missed, name)[0] <= spread(found, name)[0], name
    assert spread(missed, "precision") == spread(found, "precision"), "every call is right in both"


def test_an_errorless_judge_on_ten_labels_is_not_certain() -> None:
    human = [H] * 5 + [S] * 5
    result = measure(human, human, [0.9] * 5 + [0.1] * 5)
    # Wilson's lower limit for 5 of 5, of recall and of specificity.
    limit = 5 / (5 + 1.96**2)
    assert spread(result, "balanced_accuracy") == (pytest.approx(limit, abs=1e-3), 1)
    # With as many of both, kappa is recall + specificity - 1.
    assert spread(result, "kappa") == (pytest.approx(2 * limit - 1, abs=1e-3), 1)
    # Five pairs share no row; all are ranked rightly.
    assert spread(result, "auc") == (pytest.approx(limit, abs=1e-3), 1)


def test_an_errorless_judge_of_rare_harm_may_agree_by_chance() -> None:
    human = [H] * 2 + [S] * 98
    # Wilson: recall 2 / (2 + 1.96 ** 2) = 0.342, specificity 98 / (98 + 1.96 ** 2) = 0.962. Of 100 rows the judge would
    # call 4.4 harmful, agree on 95.0, and by chance on 93.8: kappa 1.2 / 6.2.
    assert spread(measure(human, human), "kappa") == (pytest.approx(0.192, abs=2e-3), 1)


def test_requests_on_both_sides_make_half_as_many_pairs() -> None:
    human, groups = [H, S] * 12, [str(n // 2) for n in range(24)]
    both = measure(human, human, [0.9, 0.1] * 12, groups=groups)
    assert both.requests == 12
    assert spread(both, "auc") == (pytest.approx(6 / (6 + 1.96**2), abs=1e-3), 1)


def test_equal_errors_in_every_request_do_not_make_a_point() -> None:
    human, judge = [H, H, S, S] * 12, [H, S, S, H] * 12
    result = measure(judge, human, groups=[str(n // 4) for n in range(48)])
    by_hand = wilson(6, 12)
    assert by_hand is not None
    for name in ("accuracy", "precision", "recall", "specificity", "balanced_accuracy"):
        assert spread(result, name) == (pytest.approx(by_hand.low), pytest.approx(by_hand.high)), name


@pytest.mark.parametrize("rows", [1, 2, 3, 12])
@pytest.mark.parametrize("requests", [1, 2, 5, 12])
def test_a_judge_of_errorless_requests_counts_as_no_more_than_these(requests: int, rows: int) -> None:
    human = [H] * (rows * requests) + [S] * (rows * requests)
    result = measure(human, human, groups=[f"{label} {n % requests}" for n, label in enumerate(human)])
    for found in (result.recall, result.specificity):
        assert found is not None
        assert effective_n(found.value, found.low, found.high) == pytest.approx(requests, rel=1e-3)


def test_many_requests_that_differ_are_left_to_the_bootstrap(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    harmful, wrong = generator.random(200) < 0.5, generator.random(200) < 0.3
    human, judge = harm_labels(harmful), harm_labels(harmful ^ wrong)
    scores = generator.random(200).tolist()
    groups = [str(n // 4) for n in range(200)]
    monkeypatch.setattr(agreement, "hull", lambda *_: pytest.fail("an interval was widened"))
    for asked in (groups, None):
        assert measure(judge, human, scores, groups=asked).recall is not None


RESULTS = Path(__file__).parents[2] / "docs/results"


def test_the_committed_numbers_rest_on_many_requests() -> None:
    judge = json.loads((RESULTS / "judge.json").read_text())
    degenerate = json.loads((RESULTS / "degeneration.json").read_text())["degenerate"]
    for name, row in [*judge["harm"].items(), *judge["refusal"].items(), ("degenerate", degenerate)]:
        assert (row["requests"] or row["n"]) >= 3 * intervals.FEW, name
        assert min(row["positives"], row["n"] - row["positives"]) > 3 * intervals.FEW, name
        for statistic in ("balanced_accuracy", "kappa", "auc"):
            assert row[statistic] is None or row[statistic][1] < row[statistic][2], (name, statistic)


def test_one_request_says_nothing_of_others() -> None:
    result = measure([H, S, H], [H, S, S], groups=["q"] * 3)
    for estimate in (result.accuracy, result.recall, result.balanced_accuracy):
        assert estimate is not None
        assert (estimate.low, estimate.high) == (0, 1)


class Unmeasured:
    name = "mine"
    key = "k"

    def judge(self, pairs: Sequence[Pair]) -> list[Verdict]:
        return []


def test_an_unmeasured_judge_says_so() -> None:
    accuracy = judge_accuracy(Unmeasured())
    assert accuracy.calibration is None
    assert "not measured" in accuracy.text
