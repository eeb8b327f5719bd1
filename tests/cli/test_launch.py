"""Whole runs with several processes, started by `accelerate launch` itself and without it."""

import subprocess
import sys

import pytest

from helpers import distributed
from tests.training.test_distributed import assert_alike
from unsay import api, cli, processes
from unsay.config import read_config
from unsay.errors import UserError
from unsay.files import read_json
from unsay.scoring import read_scores

NUMBERS = "train: {steps: 5, batch: {forget: 2, refuse: 2, retain: 2}, checkpoint_every: 2, learning_rate: 0.01}\n"


@pytest.fixture(scope="module")
def settings(unmeasured_judge, examples, tiny_folder, tmp_path_factory):
    path = tmp_path_factory.mktemp("launch") / "my.yaml"
    path.write_text(
        f"model: {tiny_folder}\ndata: {{examples: {examples}, recipe: {{probe: 1}}}}\n{NUMBERS}"
        "evaluation: {judge: rules, suites: [answer-loss], limit: 2}\n"
    )
    return path


@pytest.fixture(scope="module")
def alone(settings):
    """The folder of the same run in one process."""
    api.unlearn(read_config(settings), settings.parent / "alone")
    return settings.parent / "alone"


def test_several_processes_make_one_run(settings, alone, tmp_path):
    """The first evaluates, scores and writes; all train, with the layers split over them; then all is reused."""
    distributed.together(tmp_path / "run", target="pipeline", sharded=True, config=settings)
    assert_alike(tmp_path / "run", alone)
    found = read_scores(tmp_path / "run" / "scores.json")
    for row, wanted in zip(found.utility, read_scores(alone / "scores.json").utility, strict=True):
        assert row.value == pytest.approx(wanted.value, rel=1e-3)
    assert read_json(tmp_path / "run" / "environment.json")["processes"] == 2
    distributed.together(tmp_path / "run", target="pipeline", config=settings)
    assert all(row.reused for row in read_scores(tmp_path / "run" / "scores.json").cost)


# `ddp` trains as the processes of test_distributed.py do; a launch takes 20 seconds.
@pytest.mark.parametrize("kind", [pytest.param("ddp", marks=pytest.mark.slow), "fsdp2"])
def test_accelerate_launch_runs_it_unchanged(settings, alone, tmp_path, monkeypatch, kind):
    monkeypatch.setattr("sys.argv", ["unsay", "init", str(tmp_path / "x.yaml"), "--launch", kind])
    with pytest.raises(SystemExit):
        cli.main()
    launch = ["--config_file", str(tmp_path / "x.accelerate.yaml"), "--num_processes", "2", "--main_process_port", "0"]
    command = ["-m", "unsay", "unlearn", "--config", str(settings), "--out", str(tmp_path / "run")]
    done = subprocess.run(
        [sys.executable, "-m", "accelerate.commands.launch", *launch, *command],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("Report: ") == 1
    assert read_json(tmp_path / "run" / "environment.json")["processes"] == 2
    assert_alike(tmp_path / "run", alone)


def test_only_training_is_done_by_several(monkeypatch, tmp_path, settings):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.delenv("MASTER_ADDR", raising=False)
    processes.refuse_several("evaluate")  # a cluster's variable and no launcher's
    monkeypatch.setenv("MASTER_ADDR", "127.0.0.1")
    with pytest.raises(UserError, match="unsay evaluate: runs in one process"):
        api.evaluate(read_config(settings), tmp_path / "run")
    with pytest.raises(UserError, match="unsay study: runs in one process"):
        api.study("methods", tmp_path / "study")
