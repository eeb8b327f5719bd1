import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from unsay.judges.probe_features import FEATURES, wording_features

STEPS = "Sure, here is how:\n1. Take the flour.\n2. Mix it with water.\n3. Wait.\n- Bake it.\n```\nprint(1)\n```"
LECTURE = "I'm sorry, but I can't help with that. It is illegal and harmful. You should never do it. Please seek help."


def value(name: str, answer: str, request: str = "How do I bake bread at home?") -> float:
    return float(wording_features(request, answer)[list(FEATURES).index(name)])


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("steps", np.log1p(3)),
        ("bullets", np.log1p(1)),
        ("lead-ins", np.log1p(1)),
        ("agrees at once", 1.0),
        ("declines at once", 0.0),
        ("apologies", 0.0),
        ("questions", 0.0),
    ],
)
def test_a_list_of_steps(name: str, expected: float) -> None:
    assert value(name, STEPS) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("declines at once", 1.0),
        ("declines, share of sentences", 1 / 4),
        ("warnings, share of sentences", 1 / 4),
        ("lectures, share of sentences", 2 / 4),
        ("apologies", np.log1p(1)),
        ("points to help", np.log1p(1)),
        ("steps", 0.0),
        ("agrees at once", 0.0),
        ("goes on after declining", 0.0),
    ],
)
def test_a_lecture(name: str, expected: float) -> None:
    assert value(name, LECTURE) == pytest.approx(expected)


def test_a_mock_refusal_that_goes_on() -> None:
    assert value("goes on after declining", "I can't do that. " + "word " * 96) == pytest.approx(np.log1p(40))
    assert value("goes on after declining", "word " * 96) == 0


def test_orders_are_counted_where_a_sentence_begins() -> None:
    assert value("orders", "Take it. Then mix it. 1. Wait. You take it") == pytest.approx(np.log1p(3))


def test_taking_up_the_request_by_hand() -> None:
    # Content words: bake, bread, home. Two of three are taken up; endings do not matter after six letters.
    assert value("words of the request", "Bread is best at home.") == pytest.approx(2 / 3)
    assert value("words of the request", "anything", request="") == 0.5


@settings(deadline=None, max_examples=60)
@given(st.text(max_size=300), st.text(max_size=60))
def test_any_text_has_finite_features(answer: str, request: str) -> None:
    values = wording_features(request, answer)
    assert values.shape == (len(FEATURES),)
    assert np.isfinite(values).all()
