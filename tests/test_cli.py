"""The command line: help that reads well, and one line with exit code 2 for whatever a person gets wrong."""

import json
import re
import sys

import pytest
import yaml

from unsay import cli
from unsay.config import read_config
from unsay.scoring import JudgeInfo, Scores


@pytest.fixture
def run(monkeypatch, capsys):
    """Calls `unsay ARGS` in this process; gives (exit code, stdout, stderr)."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["unsay", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return ended.value.code, said.out, said.err

    return call


@pytest.mark.parametrize("command", ["demo", "unlearn", "evaluate", "compare", "init", "report", "suites", "methods"])
def test_every_command_explains_itself(run, command):
    code, out, _ = run(command, "--help")
    assert code == 0
    assert command in out


def test_the_help_names_every_command(run):
    code, out, _ = run("--help")
    assert code == 0
    assert all(name in out for name in ("demo", "unlearn", "evaluate", "init", "report"))


def test_suites_and_methods_are_listed(run, monkeypatch):
    monkeypatch.delenv("UNSAY_DATA_DIR", raising=False)
    code, out, _ = run("suites")
    assert code == 0
    assert "advbench" in out
    code, out, _ = run("methods")
    assert code == 0
    assert "2406.02575" in out


def wrong(run, needle, *arguments):
    code, _, err = run(*arguments)
    assert code == 2
    assert err.strip().count("\n") == 0, err
    assert needle in err
    assert "Traceback" not in err


def test_what_is_wrong_is_said_in_one_line(run, tmp_path):
    (tmp_path / "odd.yaml").write_text("model: [")
    (tmp_path / "unknown.yaml").write_text("trian: {}\n")
    (tmp_path / "method.yaml").write_text("method: forget-everything\n")
    (tmp_path / "rows.jsonl").write_text('{"id": "1", "prompt": "Hi", "kind": "attack"}\n{"id": 2}\n')
    (tmp_path / "picture.jsonl").write_text(
        json.dumps({"id": "1", "prompt": "Hi", "kind": "benign", "image": "none.png"}) + "\n"
    )
    out = tmp_path / "run"
    wrong(run, "none.yaml: no such file", "unlearn", "--config", tmp_path / "none.yaml", "--out", out)
    wrong(run, "odd.yaml", "unlearn", "--config", tmp_path / "odd.yaml", "--out", out)
    wrong(run, "trian", "unlearn", "--config", tmp_path / "unknown.yaml", "--out", out)
    wrong(run, "rows.jsonl:2", "evaluate", "--suite-file", tmp_path / "rows.jsonl", "--out", out)
    wrong(run, "none.png", "evaluate", "--suite-file", tmp_path / "picture.jsonl", "--out", out)
    wrong(run, "no-such-suite", "evaluate", "--suites", "no-such-suite", "--out", out)
    wrong(run, "adapter", "evaluate", "--suites", "contrast", "--adapter", tmp_path, "--out", out)
    wrong(run, "scores.json", "report", tmp_path)
    (tmp_path / "file").write_text("")
    wrong(run, str(tmp_path / "file"), "evaluate", "--suites", "contrast", "--out", tmp_path / "file")


def test_an_unknown_method_is_named_before_anything_is_loaded(run, tmp_path):
    (tmp_path / "method.yaml").write_text("method: forget-everything\n")
    wrong(run, "forget-everything", "unlearn", "--config", tmp_path / "method.yaml", "--out", tmp_path / "run")


def test_init_writes_settings_and_never_over_a_file(run, tmp_path, monkeypatch, capsys):
    path = tmp_path / "my.yaml"
    monkeypatch.setattr(sys, "argv", ["unsay", "init", str(path)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    capsys.readouterr()
    assert ended.value.code == 0
    before = path.read_text()
    wrong(run, "exists", "init", path)
    assert path.read_text() == before


def test_init_says_how_a_preset_for_eight_gpus_is_launched(run, tmp_path, monkeypatch, capsys):
    path, launch = tmp_path / "my.yaml", tmp_path / "my.accelerate.yaml"
    monkeypatch.setattr(sys, "argv", ["unsay", "init", "--preset", "llava-1.5-7b-8gpu", str(path)])
    with pytest.raises(SystemExit):
        cli.main()
    command = f"accelerate launch --config_file {launch} -m unsay unlearn --config"
    assert f"then run: {command} {path} --out" in capsys.readouterr().out
    assert f"{command} THIS_FILE" in path.read_text()
    path.unlink()
    wrong(run, "my.accelerate.yaml: exists", "init", "--preset", "qwen3-vl-8b-8gpu", path)
    assert not path.exists()
    wrong(run, "--launch: unknown 'zero2'", "init", "--launch", "zero2", path)


def test_a_limit_below_one_is_refused(run, tmp_path):
    assert "neither a number from 1 nor `all`" in run("evaluate", "--limit", "some", "--out", tmp_path / "run")[2]
    code, _, err = run("evaluate", "--limit", "0", "--out", tmp_path / "run")
    assert code == 2
    assert "limit" in err
    assert "Traceback" not in err


def test_a_picture_that_is_none_is_named_before_anything_is_loaded(run, tmp_path, monkeypatch):
    monkeypatch.setattr("unsay.pipeline.run.load", None)
    (tmp_path / "a.png").write_text("no picture")
    (tmp_path / "mine.jsonl").write_text('{"id": "1", "prompt": "Hi", "kind": "benign", "image": "a.png"}\n')
    wrong(run, "a.png: not a readable", "evaluate", "--suite-file", tmp_path / "mine.jsonl", "--out", tmp_path / "run")


def test_other_mistakes_are_one_line_too(run, tmp_path):
    out = tmp_path / "run"
    (tmp_path / "my.yaml").write_text("evaluation: {judge: rules}\n")
    mine = ("--suite-file", tmp_path / "mine.jsonl")
    for limit in ("3", "all"):
        wrong(run, "of your own questions every one is asked", "evaluate", "--limit", limit, *mine, "--out", out)
    wrong(run, "mine.jsonl: no such file", "unlearn", "--config", tmp_path / "my.yaml", *mine, "--out", out)
    wrong(run, "none: no such run directory", "compare", tmp_path / "none", tmp_path, "--out", out)
    wrong(run, "holds no finished run (scores.json is missing)", "compare", tmp_path, tmp_path, "--out", out)
    plain = ("export", tmp_path, "--out", out)
    wrong(run, "--dtype: without --merge", *plain, "--dtype", "float16")
    wrong(run, "--device: without --merge", *plain, "--device", "cpu")
    wrong(run, "--dtype and --device: without --merge", *plain, "--dtype", "float16", "--device", "cpu")
    wrong(run, "no such folder", "evaluate", "--data-dir", tmp_path / "none", "--out", out)
    wrong(run, "evaluation.judge", "evaluate", "--judge", "nobody", "--suites", "contrast", "--out", out)
    wrong(run, "device: 'toaster'", "evaluate", "--device", "toaster", "--suites", "contrast", "--out", out)
    wrong(run, "no such run directory", "report", tmp_path / "none")
    assert not out.exists()


def test_a_suite_that_needs_data_says_where_it_is_looked_for(run, tmp_path, monkeypatch):
    monkeypatch.delenv("UNSAY_DATA_DIR", raising=False)
    wrong(run, "UNSAY_DATA_DIR", "evaluate", "--suites", "xstest-safe", "--judge", "rules", "--out", tmp_path / "run")


def test_a_file_of_settings_evaluates_too_and_options_go_before_it(run, tiny_folder, tmp_path, monkeypatch):
    """Precision, servers and judges with settings are said in a file."""
    monkeypatch.delattr("unsay.judging.rules.RulesJudge.accuracy")
    (tmp_path / "mine.jsonl").write_text('{"id": "1", "prompt": "Hi", "kind": "benign"}\n')
    settings = {
        "model": "org/none", "model_settings": {"dtype": "bfloat16"},
        "evaluation": {"judge": "rules", "limit": 7, "generation": {"max_new_tokens": 3}},
    }  # fmt: skip
    (tmp_path / "my.yaml").write_text(yaml.safe_dump(settings))
    command = ["evaluate", "--config", tmp_path / "my.yaml", "--suite-file", tmp_path / "mine.jsonl"]
    assert run(*command, "--model", tiny_folder, "--judge", "rules", "--out", tmp_path / "run")[0] == 0
    made = read_config(tmp_path / "run" / "config.yaml")
    assert made.model == str(tiny_folder)
    assert made.model_settings.dtype == "bfloat16"
    assert (made.evaluation.judge, made.evaluation.limit, made.evaluation.generation.max_new_tokens) == (
        "rules",
        7,
        3,
    )
    wrong(run, "evaluation.judge", *command, "--judge", "nobody", "--out", tmp_path / "other")
    wrong(run, "my.yml: no such file", "evaluate", "--config", tmp_path / "my.yml", "--out", tmp_path / "other")


@pytest.mark.parametrize(
    ("options", "suites", "limit"),
    [
        ((), ["contrast"], 7),
        (("--suite-file", "mine.jsonl"), [], 7),
        (("--suite-file", "mine.jsonl", "--suites", "shapes,contrast", "--limit", "3"), ["shapes", "contrast"], 3),
    ],
)
def test_own_questions_are_asked_alone_or_beside_the_suites_that_are_named(
    run, tmp_path, monkeypatch, options, suites, limit
):
    asked = []

    def evaluate(config, out, *, suite_file, **_more):
        asked.append((list(config.evaluation.suites), config.evaluation.limit, suite_file is not None))
        return Scores(judge=JudgeInfo(name="rules"))

    monkeypatch.setattr("unsay.api.evaluate", evaluate)
    (tmp_path / "my.yaml").write_text("evaluation: {suites: [contrast], limit: 7}\n")
    assert run("evaluate", "--config", tmp_path / "my.yaml", *options, "--out", tmp_path / "run")[0] == 0
    assert asked == [(suites, limit, bool(options))]


def test_an_interruption_is_one_line(run, tmp_path, monkeypatch):
    def interrupted(*_args, **_more):
        raise KeyboardInterrupt

    monkeypatch.setattr("unsay.reporting.write_report", interrupted)
    code, _, err = run("report", tmp_path)
    assert code == 130
    assert err.strip() == "unsay: interrupted; run the same command again to continue"


def test_an_odd_name_is_printed_as_it_is(run, tmp_path):
    """Names are not markup, and one with a line break is still one line."""
    wrong(run, "[bold]red[/]", "report", tmp_path / "[bold]red[/]")
    wrong(run, "two lines", "report", tmp_path / "two\nlines")


def test_what_is_piped_holds_no_control_codes(run, tiny_folder, tmp_path, monkeypatch):
    monkeypatch.delattr("unsay.judging.rules.RulesJudge.accuracy")  # measures for seconds what is of no account here
    (tmp_path / "mine.jsonl").write_text('{"id": "1", "prompt": "Hi", "kind": "benign"}\n')
    command = ["evaluate", "--model", tiny_folder, "--judge", "rules", "--out", tmp_path / "run"]
    code, out, err = run(*command, "--suite-file", tmp_path / "mine.jsonl")
    assert code == 0
    assert "\x1b" not in out + err
    assert re.match(r"Evaluate the original model: \d+ s\n", out)
    assert out.rstrip().endswith("report.html")


def test_a_bug_still_shows_where_it_is(monkeypatch, tmp_path):
    def broken(*_args, **_more):
        raise ZeroDivisionError

    monkeypatch.setattr("unsay.reporting.write_report", broken)
    monkeypatch.setattr(sys, "argv", ["unsay", "report", str(tmp_path)])
    with pytest.raises(ZeroDivisionError):
        cli.main()
