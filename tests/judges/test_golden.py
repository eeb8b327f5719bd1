"""A judge's outputs change only together with its version; verdicts are kept under it."""

import json
from pathlib import Path

import pytest

from helpers import golden
from helpers.golden_judges import OUTPUTS
from tools.golden import GOLDEN, ROOT

FILE = Path(__file__).with_name("golden.json")


@pytest.mark.parametrize("name", OUTPUTS)
def test_outputs_change_only_with_their_version(name: str) -> None:
    golden.check(FILE, name, OUTPUTS[name])


def test_the_file_holds_these_and_no_others() -> None:
    assert json.loads(FILE.read_text()).keys() == OUTPUTS.keys()
    assert FILE in {ROOT / file for file in GOLDEN}


def test_what_the_check_says(tmp_path: Path) -> None:
    file = tmp_path / "golden.json"
    assert golden.write(file, {"one": lambda: (1, [0.12345])}) == []
    golden.check(file, "one", lambda: (1, [0.12349]))
    with pytest.raises(AssertionError, match="outputs of 'one' changed: raise its VERSION"):
        golden.check(file, "one", lambda: (1, [0.2]))
    for name, version in (("one", 2), ("other", 1)):
        with pytest.raises(AssertionError, match=r"write the golden file again with `python -m tools\.golden`"):
            golden.check(file, name, lambda version=version: (version, [0.12345]))


def test_the_command_refuses_outputs_that_changed_under_an_old_version(tmp_path: Path) -> None:
    file = tmp_path / "golden.json"
    golden.write(file, {"one": lambda: (1, ["a"]), "two": lambda: (1, ["a"])})
    before = file.read_text()
    assert golden.write(file, {"one": lambda: (1, ["b"]), "two": lambda: (2, ["b"])}) == ["one"]
    assert file.read_text() == before
    assert golden.write(file, {"one": lambda: (2, ["b"]), "two": lambda: (2, ["b"])}) == []
    golden.check(file, "one", lambda: (2, ["b"]))
