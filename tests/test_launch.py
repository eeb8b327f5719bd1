"""Whole runs with several processes, started by `accelerate launch` itself and without it."""

import subprocess
import sys

import pytest

import distributed
import tiny
from test_distributed import assert_alike
from unsay import api, cli
from unsay.config import read_config
from unsay.errors import UserError
from unsay.files import read_json, write_rows
from unsay.scoring import read_scores

NUMBERS = "train: {steps: 5, batch: {forget: 2, refuse: 2, retain: 2}, checkpoint_every: 2, learning_rate: 0.01}\n"


@pytest.fixture
def settings(tiny_folder, tmp_path, monkeypatch):
    monkeypatch.delattr("unsay.judging.rules.RulesJudge.accuracy")  # takes seconds and is of no account here
    write_rows(tmp_path / "examples.jsonl", tiny.examples(12))
    (tmp_path / "my.yaml").write_text(
        f"model: {tiny_folder}\ndata: {{examples: examples.jsonl, recipe: {{probe: 1}}}}\n{NUMBERS}"
        "evaluation: {judge: rules, suites: [answer-loss], limit: 2}\n"
    )
    return tmp_path / "my.yaml"


def test_several_processes_make_one_run(settings, tmp_path):
    """The first evaluates, scores and writes; all train, with the layers split over them; then all is reused."""
    alone = api.unlearn(read_config(settings), tmp_path / "alone")
    distributed.together(tmp_path / "run", target="pipeline", sharded=True, config=settings)
    assert_alike(tmp_path / "run", tmp_path / "alone")
    found = read_scores(tmp_path / "run" / "scores.json")
    for row, wanted in zip(found.utility, alone.utility, strict=True):
        assert row.value == pytest.approx(wanted.value, rel=1e-3)
    assert read_json(tmp_path / "run" / "environment.json")["processes"] == 2
    distributed.together(tmp_path / "run", target="pipeline", config=settings)
    assert all(row.reused for row in read_scores(tmp_path / "run" / "scores.json").cost)


@pytest.mark.parametrize("kind", ["ddp", "fsdp2"])
def test_accelerate_launch_runs_it_unchanged(settings, tmp_path, monkeypatch, kind):
    monkeypatch.setattr("sys.argv", ["unsay", "init", str(tmp_path / "x.yaml"), "--launch", kind])
    with pytest.raises(SystemExit):
        cli.main()
    api.unlearn(read_config(settings), tmp_path / "alone")
    launch = ["--config_file", str(tmp_path / "x.accelerate.yaml"), "--num_processes", "2", "--main_process_port", "0"]
    command = ["-m", "unsay", "unlearn", "--config", str(settings), "--out", str(tmp_path / "run")]
    done = subprocess.run(
        [sys.executable, "-m", "accelerate.commands.launch", *launch, *command],
        capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.count("Report: ") == 1
    assert read_json(tmp_path / "run" / "environment.json")["processes"] == 2
    assert_alike(tmp_path / "run", tmp_path / "alone")


def test_only_training_is_done_by_several(monkeypatch, tmp_path, settings):
    monkeypatch.setenv("WORLD_SIZE", "2")
    with pytest.raises(UserError, match="unsay evaluate: runs in one process"):
        api.evaluate(read_config(settings), tmp_path / "run")
    with pytest.raises(UserError, match="unsay study: runs in one process"):
        api.study("methods", tmp_path / "study")
