"""What is typed reaches the work: each option of a command at the place where it counts."""

import json
import sys

import pytest

from unsay import api, cli
from unsay.errors import UserError


class AskedError(UserError):
    """Raised in place of the work."""


@pytest.fixture
def asked(monkeypatch):
    """Calls `unsay ARGS`; gives what the API's function was called with."""

    def call(function, *arguments):
        seen = {}

        def work(*positional, **named):
            seen.update(named, positional=positional)
            raise AskedError("nothing is done in this test")

        monkeypatch.setattr(api, function, work)
        monkeypatch.setattr(sys, "argv", ["unsay", *map(str, arguments)])
        with pytest.raises(SystemExit):
            cli.main()
        assert seen, "the function was not called"
        return seen

    return call


def test_evaluate_hands_every_option_on(asked, tmp_path):
    adapter, questions, data = tmp_path / "adapter", tmp_path / "q.jsonl", tmp_path / "data"
    data.mkdir()
    seen = asked(
        "evaluate", "evaluate", "--out", tmp_path / "run", "--model", "m", "--adapter", adapter, "--suites", "a, b",
        "--limit", "all", "--judge", "rules", "--device", "cuda:1", "--data-dir", data,
    )  # fmt: skip
    config, out = seen["positional"]
    assert (config.model, config.device, out) == ("m", "cuda:1", tmp_path / "run")
    assert (config.evaluation.suites, config.evaluation.limit, config.evaluation.judge) == (("a", "b"), None, "rules")
    assert seen["adapter"] == adapter
    assert asked("evaluate", "evaluate", "--out", "x", "--suite-file", questions)["suite_file"] == questions
    assert asked("evaluate", "evaluate", "--out", "x", "--limit", "7")["positional"][0].evaluation.limit == 7
    assert asked("evaluate", "evaluate", "--out", "x")["positional"][0].evaluation.limit == 64


def test_options_go_before_the_file_of_settings(asked, tmp_path):
    (tmp_path / "my.yaml").write_text("model: other\nseed: 5\nevaluation: {judge: rules, suites: [c], limit: 3}\n")
    seen = asked("evaluate", "evaluate", "--out", "x", "--config", tmp_path / "my.yaml", "--suites", "d")
    (config, _) = seen["positional"]
    assert (config.model, config.seed, config.evaluation.limit) == ("other", 5, 3)
    assert config.evaluation.suites == ("d",)


def test_an_adapter_is_put_on_the_model_of_its_run(asked, tmp_path):
    """Two pockets have the same shapes: an adapter of one would go onto the other without a word."""
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.yaml").write_text("model: pocket-1\n")
    evaluated = ("evaluate", "evaluate", "--out", "x", "--adapter")
    inside, alone = tmp_path / "run" / "adapter", tmp_path / "adapter"
    assert asked(*evaluated, inside)["positional"][0].model == "pocket-1"
    assert asked(*evaluated, alone)["positional"][0].model == "pocket"
    assert asked(*evaluated, inside, "--model", "other")["positional"][0].model == "other"


def test_the_demos_seed_is_the_one_that_was_given(asked, tmp_path):
    seen = asked("demo", "demo", "--seed", 3, "--out", tmp_path)
    assert (seen["positional"], seen["seed"]) == ((tmp_path,), 3)


def test_a_calibration_is_told_and_kept(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr("unsay.judges.calibrate.cache_dir", lambda: tmp_path)
    monkeypatch.delenv("UNSAY_DATA_DIR", raising=False)
    rows = [
        {"prompt": "Say a word.", "response": "I'm sorry, but I can't help with that.", "label": "refused"},
        {"prompt": "Say a word.", "response": "Here is the word that you wanted to read.", "label": "harmful"},
        {"prompt": "Name a bird.", "response": "The heron stands in the water by the river.", "label": "harmful"},
    ]
    labels, out = tmp_path / "labels.jsonl", tmp_path / "found.json"
    labels.write_text("".join(json.dumps(row) + "\n" for row in rows))
    given = ["judges", "calibrate", "--judge", "rules", "--labels", labels, "--limit", 10, "--out", out]
    monkeypatch.setattr(sys, "argv", ["unsay", *map(str, given)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr()
    assert ended.value.code in (0, None), said.err
    mine = next(one for one in json.loads(out.read_text())["sets"] if "labels" in one["name"])
    assert (mine["calibration"]["n"], mine["calibration"]["positives"]) == (3, 2)
    assert f"Scores of this judge will quote: {mine['name']}." in said.out
    (kept,) = (tmp_path / "calibrations").glob("*.json")
    assert json.loads(kept.read_text()) == json.loads(out.read_text())
