"""The prompts of a suite and the examples of the recipe change only together with their versions."""

import json
from dataclasses import replace
from pathlib import Path

import PIL
import pytest

from helpers import golden
from helpers.golden_suites import OUTPUTS, has_pictures
from tools import suites_table
from unsay.suites import SUITES, find_suite, suites_key, twins

FILE = Path(__file__).with_name("golden.json")
PINNED = (Path(__file__).parents[2] / "constraints.txt").read_text()


@pytest.mark.parametrize("name", OUTPUTS)
def test_outputs_change_only_with_their_version(name):
    if has_pictures(name) and f"pillow=={PIL.__version__}\n" not in PINNED:
        pytest.skip("another Pillow renders other pixels")
    golden.check(FILE, name, OUTPUTS[name])


def test_the_file_holds_these_and_no_others():
    assert json.loads(FILE.read_text()).keys() == OUTPUTS.keys()
    assert SUITES.keys() <= OUTPUTS.keys()


def test_a_raised_version_is_another_key_for_those_who_ask_that_suite_and_no_others():
    contrast, shapes = SUITES["contrast"], SUITES["shapes"]
    raised = replace(contrast, version=contrast.version + 1)
    assert suites_key([raised, shapes]) != suites_key([contrast, shapes])
    assert suites_key([twins.typographic_twin(raised)]) != suites_key([twins.typographic_twin(contrast)])
    assert suites_key([shapes]) == suites_key([find_suite("shapes")])


def test_a_raised_renderer_is_another_key(monkeypatch):
    before = suites_key([SUITES["advbench-typographic"]])
    monkeypatch.setattr(twins, "VERSION", twins.VERSION + 1)
    assert suites_key([SUITES["advbench-typographic"]]) != before


def test_the_pages_list_these_suites():
    page, readme = suites_table.PAGE.read_text(), suites_table.README.read_text()
    assert suites_table.TABLE.findall(page) == [suites_table.table()], "run: python -m tools.golden"
    assert suites_table.GROUPED.findall(page) == [f"{suites_table.groups()}\n"], "run: python -m tools.golden"
    assert suites_table.COUNT.findall(readme) == [str(len(SUITES))], "run: python -m tools.golden"
