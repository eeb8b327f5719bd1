"""A run directory is one process's at a time, and shows no results of settings that it no longer has."""

import subprocess
import sys

import pytest
import torch

from unsay.config import RunConfig, write_config
from unsay.errors import UserError
from unsay.pipeline.holding import clear_outdated, hold
from unsay.pipeline.run import Run

HOLDS = """
import sys
from filelock import FileLock
lock = FileLock(sys.argv[1])
lock.acquire()
print("held", flush=True)
input()
"""


def test_a_directory_in_use_is_refused_until_whoever_has_it_is_gone_or_killed(tmp_path):
    other = subprocess.Popen(
        [sys.executable, "-c", HOLDS, str(tmp_path / ".lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(UserError, match=r"another unsay is at work there; wait for it, or choose another --out"):
            Run.open(tmp_path, RunConfig())
        assert not (tmp_path / "config.yaml").exists()
    finally:
        other.kill()
        other.wait()
    assert Run.open(tmp_path, RunConfig()).config == RunConfig()


def test_one_process_may_open_a_directory_again(tmp_path):
    first, second = hold(tmp_path), hold(tmp_path)
    assert first is second


@pytest.fixture
def finished(tmp_path):
    config = RunConfig(seed=3)
    write_config(tmp_path / "config.yaml", config)
    (tmp_path / "stages").mkdir()
    for name in ("scores.json", "report.html", "stages/unlearn.json", "stages/evaluate-before.json"):
        (tmp_path / name).write_text("{}")
    return config


def left(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} - {"config.yaml"}


def test_the_same_settings_keep_everything(finished, tmp_path):
    before = left(tmp_path)
    clear_outdated(tmp_path, finished)
    assert left(tmp_path) == before


def test_another_evaluation_keeps_what_was_learned(finished, tmp_path):
    evaluation = finished.evaluation.model_copy(update={"limit": 3})
    clear_outdated(tmp_path, finished.model_copy(update={"evaluation": evaluation}))
    assert left(tmp_path) == {"stages/unlearn.json", "stages/evaluate-before.json"}


def test_other_settings_leave_no_results_that_a_kill_would_make_their_own(finished, tmp_path):
    clear_outdated(tmp_path, RunConfig(seed=4))
    assert left(tmp_path) == {"stages/evaluate-before.json"}


def test_a_configuration_that_cannot_be_read_vouches_for_nothing(finished, tmp_path):
    (tmp_path / "config.yaml").write_text("of_another_version: 1\n")
    clear_outdated(tmp_path, finished)
    assert left(tmp_path) == {"stages/evaluate-before.json"}


def test_the_one_accelerator_of_a_process_needs_no_number(monkeypatch, tmp_path):
    chosen = []

    def set_device(device):
        if device.index is None:
            raise ValueError(f"Expected a torch.device with a specified index or an integer, but got:{device}")
        chosen.append(str(device))

    monkeypatch.setattr(torch.cuda, "set_device", set_device)
    monkeypatch.setattr("unsay.pipeline.run.check_device", lambda name: None)
    monkeypatch.setattr("unsay.pipeline.run.settled", lambda settings, device: settings)
    monkeypatch.setattr("unsay.pipeline.run.environment", lambda world: {})
    for device in ("cuda", "cuda:1"):
        Run.open(tmp_path / device[-1], RunConfig(device=device))
    assert chosen == ["cuda:1"]
