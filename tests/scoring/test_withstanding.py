"""The headline numbers of the checks, by request."""

import pytest

from unsay.files import write_json
from unsay.scoring import JudgeInfo
from unsay.scoring.robustness import (
    CheckResult,
    Robustness,
    Subject,
    read_in_short,
    result_path,
    score_number,
    write_robustness,
)
from unsay.scoring.withstanding import HEADLINES, withstood

U, R = Subject.UNLEARNED, Subject.REFERENCE


def result(*checks):
    return Robustness(judge=JudgeInfo(name="rules"), checks=checks)


def check(name, *numbers, **more):
    return CheckResult(check=name, title=name, source="", version=1, quick=True, numbers=numbers, **more)


def test_one_number_of_each_check_is_found_over_its_suites_by_request():
    deep, shallow = {"tokens": 10}, {"tokens": 5}
    prefill = check(
        "prefill",
        score_number("begun", U, {"a": 1.0, "b": 0.0}, setting=deep, suite="words"),
        score_number("begun", R, {"a": 1.0, "b": 1.0}, setting=deep, suite="words"),
        score_number("begun", U, {"a": 0.5}, setting=deep, suite="page"),
        score_number("begun", R, {"a": 0.75}, setting=deep, suite="page"),
        score_number("begun", U, {"a": 0.5}, setting=deep, suite="figstep"),  # the reference was not asked
        score_number("begun", U, {"a": 0.25}, setting=shallow, suite="words"),
        score_number("words alone", R, {"a": 1.0}, setting=deep, suite="words"),
    )
    quantise = check("quantise", score_number("int8", U, {"a": 1.0}, suite="words"))
    assert withstood([prefill, quantise, check("relearn", failed="out of memory")]) == {
        ("prefilled", U): {("words", "a"): 1.0, ("words", "b"): 0.0, ("page", "a"): 0.5},
        ("prefilled", R): {("words", "a"): 1.0, ("words", "b"): 1.0, ("page", "a"): 0.75},
    }
    assert withstood([]) == {}


def test_studies_read_the_short_form_where_a_run_has_both(tmp_path):
    """A curve of other stops has another area, and `robustness.json` prefers the full form."""
    prefill, quantise, relearn = (check(name) for name in ("prefill", "quantise", "relearn"))
    full = [row.model_copy(update={"quick": False}) for row in (quantise, relearn, check("samples"))]
    write_robustness(tmp_path, result(prefill, *full))
    write_json(result_path(tmp_path, "quantise", quick=True), quantise.model_dump(mode="json"))
    older = relearn.model_copy(update={"version": 0})
    write_json(result_path(tmp_path, "relearn", quick=True), older.model_dump(mode="json"))
    assert read_in_short(tmp_path) == (prefill, quantise)
    assert read_in_short(tmp_path / "none") == ()


def test_a_numbers_value_is_the_mean_of_its_requests():
    row = score_number("area", U, {"b": 0.25, "a": 0.75})
    assert (row.value, row.n, row.values) == (pytest.approx(0.5), 2, {"a": 0.75, "b": 0.25})


def test_every_headline_is_of_another_check_and_another_name():
    assert len({row.check for row in HEADLINES.values()}) == len(HEADLINES)
    assert len({row.title for row in HEADLINES.values()}) == len(HEADLINES)


def test_numbers_that_are_no_rates_have_intervals_in_their_own_unit():
    """Six differences of one sign, all between 0 and 1, but nats: Wilson's bound for shares has no say."""
    values = dict(zip("abcdef", (0.11, 0.12, 0.13, 0.14, 0.15, 0.16), strict=True))
    reference = dict.fromkeys(values, 0.02)

    def row(scale, unit="nats"):
        return score_number(
            "loss", U, {name: scale * nats for name, nats in values.items()},
            reference={name: scale * nats for name, nats in reference.items()}, unit=unit,
        )  # fmt: skip

    one, ten = row(1), row(10)
    for small, large in ((one.interval, ten.interval), (one.from_reference_interval, ten.from_reference_interval)):
        assert (large.low, large.high) == pytest.approx((10 * small.low, 10 * small.high))
    assert 0.11 <= one.interval.low < one.value < one.interval.high <= 0.16
    assert 0 < 0.09 <= one.from_reference_interval.low
    as_shares = row(1, "rate")
    assert as_shares.interval.high > 0.4
    assert as_shares.from_reference_interval.low < 0
    alone = score_number("loss", U, {"a": 0.5}, reference={"a": 0.25}, unit="nats")
    assert (alone.interval, alone.from_reference, alone.from_reference_interval) == (None, 0.25, None)
