"""The rows of a source change only together with its version; the page lists the sources."""

import json
from pathlib import Path

import pytest

from helpers import golden
from helpers.golden_sources import OUTPUTS
from tools import sources_table

FILE = Path(__file__).with_name("golden.json")


@pytest.mark.parametrize("name", OUTPUTS)
def test_rows_change_only_with_their_version(name):
    golden.check(FILE, name, OUTPUTS[name])


def test_the_file_holds_these_and_no_others():
    assert json.loads(FILE.read_text()).keys() == OUTPUTS.keys()


def test_the_page_lists_these_sources():
    page = sources_table.PAGE.read_text()
    assert f"{sources_table.BEGIN}\n{sources_table.table()}\n{sources_table.END}" in page, "run: python -m tools.golden"
