"""Fixtures that several test files share."""

import copy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from hypothesis import settings

from helpers import tiny
from helpers.unmeasured import unmeasured
from unsay import cli
from unsay.files import write_rows
from unsay.models import VLM, load

Said = tuple[object, str, str]
"""Exit code, standard output, standard error."""

settings.register_profile("unsay", deadline=None)  # a busy machine is no failure
settings.load_profile("unsay")


@pytest.fixture(scope="session")
def _tiny_models() -> dict[str, VLM]:
    return {name: make() for name, make in tiny.FAMILIES.items()}


@pytest.fixture
def tiny_vlm(_tiny_models: dict[str, VLM]) -> VLM:
    """A tiny random VLM of the pocket VLM's family; each test gets its own, because adapters change it in place."""
    return copy.deepcopy(_tiny_models["llava"])


@pytest.fixture(params=sorted(tiny.FAMILIES))
def any_vlm(request: pytest.FixtureRequest, _tiny_models: dict[str, VLM]) -> VLM:
    """A tiny random VLM of every family in turn."""
    return copy.deepcopy(_tiny_models[request.param])


@pytest.fixture(scope="session")
def tiny_folder(_tiny_models: dict[str, VLM], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint folder of the tiny VLM, as `load` opens it."""
    folder = tmp_path_factory.mktemp("checkpoint") / "tiny"
    vlm = copy.deepcopy(_tiny_models["llava"])
    vlm.model.save_pretrained(folder)
    vlm.processor.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def _pocket() -> VLM:
    return load("pocket")


@pytest.fixture
def pocket_vlm(_pocket: VLM) -> VLM:
    """The real pocket VLM, one per session: do not leave an adapter on it."""
    return _pocket


@pytest.fixture(scope="module")
def unmeasured_judge():
    """The judge's agreement with people is not measured."""
    patch = pytest.MonkeyPatch()
    patch.setattr("unsay.judges.rules.RulesJudge.accuracy", unmeasured)
    patch.setattr("unsay.run.environment.commit", lambda _folder: "0" * 40)  # somebody may commit meanwhile
    yield
    patch.undo()


@pytest.fixture(scope="module")
def examples(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file of training examples."""
    path = tmp_path_factory.mktemp("rows") / "examples.jsonl"
    write_rows(path, tiny.examples(12))
    return path


@pytest.fixture
def unsay(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., Said]:
    """Calls `unsay ARGS` in this process; gives (exit code, stdout, stderr)."""

    def call(*arguments: object) -> Said:
        monkeypatch.setattr(sys, "argv", ["unsay", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return ended.value.code, said.out, said.err

    return call


@pytest.fixture
def one_thread():
    """Sums in one order, whatever the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
