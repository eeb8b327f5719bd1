"""The page of studies says what each field of study.json is."""

import inspect
from pathlib import Path

from tools.study_fields import ROWS, documented, lines
from unsay.scoring.schema import Row
from unsay.studies import schema

PAGE = Path(__file__).parents[2] / "docs/studies.md"


def test_every_field_is_said_to_be_something():
    own = [kind for _, kind in inspect.getmembers(schema, inspect.isclass) if kind.__module__ == schema.__name__]
    assert set(ROWS) == {kind for kind in own if issubclass(kind, Row)}
    for kind in ROWS:
        found = list(documented(kind))
        assert [name for name, _, _ in found] == list(kind.model_fields)
        assert all(text.endswith(".") for _, _, text in found), kind.__name__


def test_the_page_of_studies_is_current():
    table = PAGE.read_text().partition("<!-- study:fields -->\n")[2].partition("\n<!-- /study:fields -->")[0]
    assert table.split("\n") == lines(), "run: python -m tools.study_fields docs/studies.md"
