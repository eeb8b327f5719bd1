"""A method of the user's own, edited under the same name: what the old loss trained is not taken for the new one's."""

import importlib
import sys
from dataclasses import replace

import pytest

from helpers import study_of_tiny
from unsay.errors import UserError
from unsay.files import read_json
from unsay.methods import METHODS, MethodEntry, build_method, method_version
from unsay.methods.base import RoleBatch
from unsay.records import Role
from unsay.studies import launcher, run_study
from unsay.studies.job import Job, job_key

SOURCE = """
from unsay.methods.base import LossTerms, MethodSettings, Needs
from unsay.records import Role


class MineSettings(MethodSettings):
    pass


class Mine:
    \"\"\"Mine.\"\"\"

    def __init__(self, settings):
        self.settings = settings

    @property
    def needs(self):
        return Needs(roles=frozenset({Role.REFUSE}))

    def loss(self, batch):
        return LossTerms({"refuse": SIGN * batch[Role.REFUSE].cross_entropy().mean()}, {})


SIGN = 1.0
"""


@pytest.fixture
def write(tmp_path, monkeypatch):
    """Writes the module, loads it as a new process would, and registers its method."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def written(source):
        (tmp_path / "mine_of_a_test.py").write_text(source)
        monkeypatch.delitem(sys.modules, "mine_of_a_test", raising=False)
        importlib.invalidate_caches()
        module = importlib.import_module("mine_of_a_test")
        monkeypatch.setitem(METHODS, "mine", MethodEntry(module.Mine, module.MineSettings, "no paper"))
        return build_method("mine")

    yield written
    sys.modules.pop("mine_of_a_test", None)


def test_a_packaged_method_has_the_version_of_its_entry_and_one_of_your_own_the_key_of_its_file(write, monkeypatch):
    versions = {name: entry.version for name, entry in METHODS.items() if entry.version is not None}
    assert all(method_version(build_method(name)) == str(version) for name, version in versions.items())
    monkeypatch.setitem(METHODS, "npo", replace(METHODS["npo"], version=7))
    assert method_version(build_method("npo")) == "7"
    first = method_version(write(SOURCE))
    assert len(first) == 16
    assert method_version(write(SOURCE)) == first
    assert method_version(write(SOURCE.replace("1.0", "2.0"))) != first


def test_a_key_is_that_of_the_code_that_is_loaded(write, tmp_path):
    mine = write(SOURCE)
    before = method_version(mine)
    (tmp_path / "mine_of_a_test.py").write_text(SOURCE + "# edited while a process runs")
    assert method_version(mine) == before


def test_a_method_in_no_file_is_refused():
    mine = type("Mine", (), {"__module__": "__nowhere__"})()
    with pytest.raises(UserError, match=r"method class Mine: it is written in no file.*put it into a module"):
        method_version(mine)


def test_the_key_of_a_run_has_the_code_of_its_method_and_that_of_an_original_has_not(write, tmp_path):
    trained = Job("t", tmp_path, tmp_path / "original", {"method": "mine"})
    original = Job("t", tmp_path, None, {"method": "mine"})
    write(SOURCE)
    before = job_key(trained), job_key(original)
    write(SOURCE + "# edited")
    assert job_key(trained) != before[0]
    assert job_key(original) == before[1]


@pytest.mark.usefixtures("unmeasured_judge", "one_thread")
def test_an_edited_method_is_trained_anew_and_one_that_was_not_is_kept(
    write, tiny_folder, examples, tmp_path, monkeypatch
):
    """In the same directory, whose checkpoints are those of the old loss."""
    out = tmp_path / "out"
    settings = study_of_tiny.study(
        tiny_folder,
        examples,
        settings={"train": {"steps": 2, "warmup_steps": 0}, "evaluation": {"suites": ["advbench"], "limit": 2}},
        seeds=[0],
        budget={},
        arms={"mine": {"settings": {"method": "mine"}}},
    )

    def made():
        result = run_study(settings, out, launcher("sequential"))
        assert result.find("mine@steps").state == "finished"
        folder = out / "arms/tiny/mine@steps/seed-0"
        stage, run = (read_json(folder / name)["key"] for name in ("stages/unlearn.json", "arm.json"))
        return stage, run, (folder / "adapter/adapter_model.safetensors").read_bytes()

    write(SOURCE)
    first = made()
    write(SOURCE.replace("SIGN = 1.0", "SIGN = -1.0"))
    second = made()
    assert all(mine != theirs for mine, theirs in zip(first, second, strict=True))

    def never(*_args, **_more):
        raise AssertionError("trained again")

    monkeypatch.setattr("unsay.run.train.train", never)
    write(SOURCE.replace("SIGN = 1.0", "SIGN = -1.0"))
    assert made() == second


def test_a_part_that_a_method_has_not_asked_for_is_named():
    batch = RoleBatch({})
    assert Role.RETAIN not in batch
    assert batch.get(Role.RETAIN) is None
    with pytest.raises(UserError, match=r"^the method's loss reads 'retain', which its `needs` do not name$"):
        batch[Role.RETAIN]
