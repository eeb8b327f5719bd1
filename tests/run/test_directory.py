"""A run directory is one process's at a time, and shows no results of settings that it no longer has."""

import gc
import os
import subprocess
import sys
from errno import EACCES, ENOLCK, ENOSYS, EROFS

import pytest
import torch

from unsay.config import RunConfig, read_config, write_config
from unsay.errors import UserError
from unsay.files import write_json, write_text
from unsay.run.directory import Run, lock_directory, stored_config
from unsay.run.environment import FORMAT

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
        with pytest.raises(UserError, match=r"another unsay process is using it; wait for it, or choose another --out"):
            Run.open(tmp_path, RunConfig())
        assert not (tmp_path / "config.yaml").exists()
    finally:
        other.kill()
        other.wait()
    assert Run.open(tmp_path, RunConfig()).config == RunConfig()


TRIES = """
import sys
from filelock import FileLock, Timeout
try:
    FileLock(sys.argv[1]).acquire(timeout=0)
except Timeout:
    print("refused")
else:
    print("taken")
"""


def tried(folder):
    return subprocess.check_output([sys.executable, "-c", TRIES, str(folder / ".lock")], text=True).strip()


def test_a_study_is_no_directory_of_a_run(tmp_path):
    write_text(tmp_path / "study.yaml", "title: x")
    with pytest.raises(UserError, match="holds a study; choose another --out"):
        Run.open(tmp_path, RunConfig())
    assert not (tmp_path / "config.yaml").exists()


def test_a_run_holds_its_directory_as_long_as_it_lives(tmp_path):
    run, again = Run.open(tmp_path, RunConfig()), Run.open(tmp_path, RunConfig())  # one process may open it twice
    assert tried(tmp_path) == "refused"
    del run
    gc.collect()
    assert tried(tmp_path) == "refused"
    del again
    gc.collect()
    assert tried(tmp_path) == "taken"


READS = """
import sys, time
from filelock import FileLock
with FileLock(sys.argv[1]):
    print("held", flush=True)
    time.sleep(0.3)
"""


def test_who_only_reads_waits_for_another_who_does(tmp_path):
    with subprocess.Popen(
        [sys.executable, "-c", READS, str(tmp_path / ".lock")], stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        with pytest.raises(UserError, match="another unsay process is using it"):
            lock_directory(tmp_path)
        assert lock_directory(tmp_path, reading=True).is_locked


@pytest.mark.parametrize("errno", [ENOSYS, ENOLCK])
def test_a_disk_without_locks_is_worked_on_without(monkeypatch, tmp_path, errno):
    def no_locks(*_args):
        raise OSError(errno, "no locks here")

    monkeypatch.setattr("fcntl.flock", no_locks)
    assert lock_directory(tmp_path) is None
    assert Run.open(tmp_path, RunConfig()).config == RunConfig()


@pytest.mark.parametrize("errno", [EACCES, EROFS])
def test_a_directory_that_is_only_read_need_not_be_writable(monkeypatch, tmp_path, errno):
    opened = os.open

    def closed(path, *args, **more):
        if str(path).endswith(".lock"):
            raise OSError(errno, "not here")
        return opened(path, *args, **more)

    monkeypatch.setattr("os.open", closed)
    assert lock_directory(tmp_path, reading=True) is None
    with pytest.raises(UserError, match="cannot write"):
        lock_directory(tmp_path)


def test_a_folder_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=r"cannot write .*: Not a directory"):
        lock_directory(tmp_path / "file" / "run")


@pytest.fixture
def finished(tmp_path):
    """The settings of a run with results in `tmp_path`."""
    config = RunConfig(seed=3)
    write_config(tmp_path / "config.yaml", config)
    (tmp_path / "stages").mkdir()
    for name in ("scores.json", "report.html", "stages/unlearn.json", "stages/suites.json"):
        (tmp_path / name).write_text("{}")
    write_json(tmp_path / "environment.json", {"format": FORMAT})
    return config


def left(folder):
    found = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return found - {"config.yaml", "environment.json", ".lock"}


def work(run):
    made = run.folder / "made"
    run.stages.run("any", "Anything", [], [made], lambda spent: made.write_text(""), load=made.read_text)
    made.unlink()
    (run.folder / "stages" / "any.json").unlink()


def test_opening_alone_changes_nothing(finished, tmp_path):
    before = left(tmp_path)
    Run.open(tmp_path, RunConfig(seed=4))
    assert left(tmp_path) == before
    assert read_config(tmp_path / "config.yaml") == finished


@pytest.mark.parametrize(
    ("changed", "learned"),
    [
        ({}, True),
        ({"device": "cpu:0"}, True),
        ({"evaluation": {"limit": 3}}, True),
        ({"train": {"accumulate": 2}}, True),
        ({"train": {"steps": 2}}, False),
        ({"seed": 4}, False),
        ({"model": "another"}, False),
    ],
)
def test_work_takes_away_results_that_a_kill_would_leave_to_other_settings(finished, tmp_path, changed, learned):
    settings = RunConfig(**({"seed": 3} | changed))
    work(Run.open(tmp_path, settings))
    assert left(tmp_path) == {"stages/suites.json", *(["stages/unlearn.json"] if learned else [])}
    assert read_config(tmp_path / "config.yaml").model_dump() == settings.model_dump()


def test_settings_with_a_relative_path_are_the_same_again(tmp_path):
    config = RunConfig(data={"examples": "mine.jsonl"})
    write_config(tmp_path / "config.yaml", config)
    assert stored_config(tmp_path) == config
    assert stored_config(tmp_path) != RunConfig()


def test_settings_that_cannot_be_read_vouch_for_nothing(finished, tmp_path):
    (tmp_path / "config.yaml").write_text("of_another_version: 1\n")
    work(Run.open(tmp_path, finished))
    assert left(tmp_path) == {"stages/suites.json"}


def test_the_one_accelerator_of_a_process_needs_no_number(monkeypatch, tmp_path):
    chosen = []

    def set_device(device):
        if device.index is None:
            raise ValueError(f"Expected a torch.device with a specified index or an integer, but got:{device}")
        chosen.append(str(device))

    monkeypatch.setattr(torch.cuda, "set_device", set_device)
    monkeypatch.setattr("unsay.run.directory.check_device", lambda name: None)
    monkeypatch.setattr("unsay.run.directory.resolved", lambda settings, device: settings)
    monkeypatch.setattr("unsay.run.directory.environment", lambda world: {})
    for device in ("cuda", "cuda:1"):
        Run.open(tmp_path / device[-1], RunConfig(device=device))
    assert chosen == ["cuda:1"]
