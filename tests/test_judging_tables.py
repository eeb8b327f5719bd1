from typing import Any

import pytest

from unsay.errors import UserError
from unsay.judging.tables import BEGIN, END, replace_tables, tables

ESTIMATE = [0.5, 0.25, 0.75]
ROW = dict.fromkeys(("auc", "balanced_accuracy", "precision", "recall", "specificity", "kappa"), ESTIMATE) | {"n": 7}
RESULTS: dict[str, Any] = {
    "probe": {"threshold": 0.5, "rows": 9, "sources": {"a": 4, "b": 5}},
    "harm": {"probe, a": ROW, "rules, a": ROW | {"auc": None}},
    "refusal": {"x": ROW},
    "xstest partial refusals": {"held out": {"n": 3, "refused": 2}},
    "word salad": {"made": {"n": 2, "flagged": 1, "nats a token": [1.0, 2.0, 3.0]}},
}


def test_every_number_is_in_its_row() -> None:
    text = tables(RESULTS)
    cell = "0.50 [0.25, 0.75]"
    assert f"| probe, a | 7 | {' | '.join([cell] * 5)} |" in text
    assert f"| rules, a | 7 |  | {' | '.join([cell] * 4)} |" in text
    assert f"| x | 7 | {' | '.join([cell] * 4)} |" in text
    assert "4 of a, 5 of b" in text
    assert "2 of 3 (held out)" in text
    assert "| made | 2 | 1 | 1.0, 2.0, 3.0 |" in text


def test_only_what_stands_between_the_markers_changes() -> None:
    page = f"before\n{BEGIN}\nold\n{END}\nafter\n"
    new = replace_tables(page, "new")
    assert new == f"before\n{BEGIN}\n\nnew\n\n{END}\nafter\n"
    assert replace_tables(new, "new") == new
    with pytest.raises(UserError, match="no place"):
        replace_tables("nothing", "new")


def test_results_that_lack_something_are_named() -> None:
    with pytest.raises(UserError, match="harm"):
        tables({name: value for name, value in RESULTS.items() if name != "harm"})
