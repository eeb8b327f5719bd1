"""`unsay play`: mistakes are one line, and the real command serves a real run until Ctrl-C."""

import json
import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from helpers import tiny
from tests.models.test_models import acting
from unsay.config import RunConfig, write_config
from unsay.models import load


@pytest.fixture
def run(tiny_folder: Path, tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    evaluation = {"judge": "rules", "generation": {"max_new_tokens": 4}}
    write_config(folder / "config.yaml", RunConfig(model=str(tiny_folder), evaluation=evaluation))
    tiny.save_trained(acting(load(str(tiny_folder))), folder)
    return folder


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "name one thing to play with"),
        (["runs", "--adapter", "adapter"], "name one thing to play with"),
        (["--before", "http://127.0.0.1:9/v1"], "belong together"),
        (["--before", "http://127.0.0.1:9/v1", "--after", "http://127.0.0.1:9/v1"], "no connection"),
        (["nowhere"], "config.yaml is missing"),
        (["nowhere", "--model", "pocket"], "--model: goes with --adapter alone"),
        (["--before", "http://x:1/v1", "--after", "http://x:1/v1", "--device", "cpu"], "--device: the servers"),
        (["--adapter", "nowhere"], "no PEFT adapter there"),
    ],
)
def test_mistakes_are_one_line(unsay, monkeypatch, tmp_path: Path, arguments: list[str], said: str) -> None:
    monkeypatch.chdir(tmp_path)
    code, _, error = unsay("play", *arguments)
    assert code == 2
    assert said in error
    assert len(error.splitlines()) == 1


def test_a_run_without_an_adapter_says_what_to_do(unsay, tmp_path: Path) -> None:
    write_config(tmp_path / "config.yaml", RunConfig())
    code, _, error = unsay("play", tmp_path)
    assert (code, "has no adapter" in error) == (2, True)


def test_without_the_extra_one_line_names_it(unsay, monkeypatch) -> None:
    monkeypatch.setattr("unsay.playground.serve.find_spec", lambda name: None if name == "uvicorn" else name)
    code, _, error = unsay("play", "anything")
    assert (code, "pip install 'unsay[web]'" in error) == (2, True)


def test_the_real_command_answers_until_it_is_interrupted(run: Path, tmp_path: Path) -> None:
    command = [sys.executable, "-m", "unsay", "play", str(run), "--port", "0", "--max-tokens", "5"]
    playing = subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=tmp_path,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    try:
        url = re.search(r"http://127\.0\.0\.1:\d+", playing.stdout.readline())[0]
        ends = []
        for phase in ("before", "after"):
            body = json.dumps({"phase": phase, "text": "Say hello."}).encode()
            asked = urllib.request.Request(url + "/answer", body, {"Content-Type": "application/json"})
            with urllib.request.urlopen(asked, timeout=120) as reply:
                lines = [json.loads(line) for line in reply]
            assert lines[-1]["verdict"]["label"] in ("refused", "safe", "degenerate")
            ends.append([line["text"] for line in lines if "text" in line][-1])
        assert ends[0] != ends[1]
        playing.send_signal(signal.SIGINT)
        rest, _ = playing.communicate(timeout=30)
    finally:
        playing.kill()
    assert playing.returncode == 0
    assert "Playground ended." in rest
    assert sorted(path.name for path in tmp_path.iterdir()) == ["run"]
