"""Which harmful requests a run learns from."""

import pytest

from unsay.data.recipe import RecipeSettings, choose_requests
from unsay.errors import UserError
from unsay.records import SourceRow

ROWS = [SourceRow(text=f"[request {n}]", source="advbench", category="odd" if n % 2 else "even") for n in range(40)]


def chosen(seed=0, **settings):
    return choose_requests(ROWS, RecipeSettings(**settings), seed)


def test_all_unless_something_is_asked_for():
    assert chosen() == ROWS
    assert chosen(requests=100) == ROWS


def test_a_number_of_them_in_row_order_and_nested():
    few, more = chosen(requests=5), chosen(requests=20)
    assert (len(few), len(more)) == (5, 20)
    assert few == [row for row in ROWS if row in few]
    assert all(row in more for row in few)


def test_the_draw_depends_on_the_seed_and_on_no_order():
    assert chosen(requests=5) != chosen(requests=5, seed=1)
    drawn = choose_requests(ROWS[::-1], RecipeSettings(requests=5), 0)
    assert {row.text for row in drawn} == {row.text for row in chosen(requests=5)}


def test_categories_are_kept_and_unknown_ones_named():
    assert {row.category for row in chosen(categories=("odd",))} == {"odd"}
    assert len(chosen(categories=("odd",), requests=3)) == 3
    with pytest.raises(UserError, match="no requests of 'none'; there are even, odd"):
        chosen(categories=("none",))
