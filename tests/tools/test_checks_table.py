"""The page of checks has the table that the checks themselves say."""

from tools import checks_table
from unsay.robustness import CHECKS


def test_the_page_is_up_to_date():
    assert checks_table.table() in checks_table.PAGE.read_text(encoding="utf-8"), "run: python -m tools.golden"


def test_every_check_has_a_row_and_a_section():
    page = checks_table.PAGE.read_text(encoding="utf-8")
    for name in CHECKS:
        assert page.count(f"| `{name}` |") == 1
        assert f"(`{name}`)\n" in page
