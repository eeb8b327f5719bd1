"""The command line: help that reads well, and one line with exit code 2 for whatever a person gets wrong."""

import json
import re
import sys

import pytest
import yaml

from unsay import cli
from unsay.config import read_config
from unsay.scoring import JudgeInfo, Scores


@pytest.mark.parametrize("command", ["demo", "unlearn", "evaluate", "compare", "init", "report", "suites", "methods"])
def test_every_command_explains_itself(unsay, command):
    code, out, _ = unsay(command, "--help")
    assert code == 0
    assert command in out


def test_the_help_names_every_command(unsay):
    code, out, _ = unsay("--help")
    assert code == 0
    assert all(name in out for name in ("demo", "unlearn", "evaluate", "init", "report"))


def test_suites_and_methods_are_listed(unsay, monkeypatch):
    monkeypatch.delenv("UNSAY_DATA_DIR", raising=False)
    code, out, _ = unsay("suites")
    assert code == 0
    assert "advbench" in out
    code, out, _ = unsay("methods")
    assert code == 0
    assert "2406.02575" in out


def wrong(unsay, needle, *arguments):
    code, _, err = unsay(*arguments)
    assert code == 2
    assert err.strip().count("\n") == 0, err
    assert needle in err
    assert "Traceback" not in err


def test_what_is_wrong_is_said_in_one_line(unsay, tmp_path):
    (tmp_path / "odd.yaml").write_text("model: [")
    (tmp_path / "unknown.yaml").write_text("trian: {}\n")
    (tmp_path / "method.yaml").write_text("method: forget-everything\n")
    (tmp_path / "rows.jsonl").write_text('{"id": "1", "prompt": "Hi", "kind": "attack"}\n{"id": 2}\n')
    (tmp_path / "picture.jsonl").write_text(
        json.dumps({"id": "1", "prompt": "Hi", "kind": "benign", "image": "none.png"}) + "\n"
    )
    out = tmp_path / "run"
    wrong(unsay, "none.yaml: no such file", "unlearn", "--config", tmp_path / "none.yaml", "--out", out)
    wrong(unsay, "odd.yaml", "unlearn", "--config", tmp_path / "odd.yaml", "--out", out)
    wrong(unsay, "trian", "unlearn", "--config", tmp_path / "unknown.yaml", "--out", out)
    wrong(unsay, "rows.jsonl:2", "evaluate", "--suite-file", tmp_path / "rows.jsonl", "--out", out)
    wrong(unsay, "none.png", "evaluate", "--suite-file", tmp_path / "picture.jsonl", "--out", out)
    wrong(unsay, "no-such-suite", "evaluate", "--suites", "no-such-suite", "--out", out)
    wrong(unsay, "adapter", "evaluate", "--suites", "contrast", "--adapter", tmp_path, "--out", out)
    wrong(unsay, "scores.json", "report", tmp_path)
    (tmp_path / "file").write_text("")
    wrong(unsay, str(tmp_path / "file"), "evaluate", "--suites", "contrast", "--out", tmp_path / "file")


def test_an_unknown_method_is_named_before_anything_is_loaded(unsay, tmp_path):
    (tmp_path / "method.yaml").write_text("method: forget-everything\n")
    wrong(unsay, "forget-everything", "unlearn", "--config", tmp_path / "method.yaml", "--out", tmp_path / "run")


def test_init_writes_settings_and_never_over_a_file(unsay, tmp_path, monkeypatch, capsys):
    path = tmp_path / "my.yaml"
    monkeypatch.setattr(sys, "argv", ["unsay", "init", str(path)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    capsys.readouterr()
    assert ended.value.code == 0
    before = path.read_text()
    wrong(unsay, "exists", "init", path)
    assert path.read_text() == before


def test_init_says_how_a_preset_for_eight_gpus_is_launched(unsay, tmp_path, monkeypatch, capsys):
    path, launch = tmp_path / "my.yaml", tmp_path / "my.accelerate.yaml"
    monkeypatch.setattr(sys, "argv", ["unsay", "init", "--preset", "llava-1.5-7b-8gpu", str(path)])
    with pytest.raises(SystemExit):
        cli.main()
    command = f"accelerate launch --config_file {launch} -m unsay unlearn --config"
    assert f"then run: {command} {path} --out" in capsys.readouterr().out
    assert f"{command} THIS_FILE" in path.read_text()
    path.unlink()
    wrong(unsay, "my.accelerate.yaml: exists", "init", "--preset", "qwen3-vl-8b-8gpu", path)
    assert not path.exists()
    wrong(unsay, "--launch: unknown 'zero2'", "init", "--launch", "zero2", path)


def test_a_limit_below_one_is_refused(unsay, tmp_path):
    assert "neither a number from 1 nor `all`" in unsay("evaluate", "--limit", "some", "--out", tmp_path / "run")[2]
    code, _, err = unsay("evaluate", "--limit", "0", "--out", tmp_path / "run")
    assert code == 2
    assert "limit" in err
    assert "Traceback" not in err


def test_a_picture_that_is_none_is_named_before_anything_is_loaded(unsay, tmp_path, monkeypatch):
    monkeypatch.setattr("unsay.run.directory.load", None)
    (tmp_path / "a.png").write_text("no picture")
    (tmp_path / "mine.jsonl").write_text('{"id": "1", "prompt": "Hi", "kind": "benign", "image": "a.png"}\n')
    wrong(
        unsay, "a.png: not a readable", "evaluate", "--suite-file", tmp_path / "mine.jsonl", "--out", tmp_path / "run"
    )


def test_other_mistakes_are_one_line_too(unsay, tmp_path):
    out = tmp_path / "run"
    (tmp_path / "my.yaml").write_text("evaluation: {judge: rules}\n")
    mine = ("--suite-file", tmp_path / "mine.jsonl")
    for limit in ("3", "all"):
        wrong(unsay, "are always evaluated in full", "evaluate", "--limit", limit, *mine, "--out", out)
    wrong(unsay, "mine.jsonl: no such file", "unlearn", "--config", tmp_path / "my.yaml", *mine, "--out", out)
    wrong(unsay, "none: no run there", "compare", tmp_path / "none", tmp_path, "--out", out)
    wrong(unsay, "holds no finished run (scores.json is missing)", "compare", tmp_path, tmp_path, "--out", out)
    plain = ("export", tmp_path, "--out", out)
    wrong(unsay, "--dtype: without --merge", *plain, "--dtype", "float16")
    wrong(unsay, "--device: without --merge", *plain, "--device", "cpu")
    wrong(unsay, "--dtype and --device: without --merge", *plain, "--dtype", "float16", "--device", "cpu")
    wrong(unsay, "no such folder", "evaluate", "--data-dir", tmp_path / "none", "--out", out)
    wrong(unsay, "evaluation.judge", "evaluate", "--judge", "nobody", "--suites", "contrast", "--out", out)
    wrong(unsay, "device: 'toaster'", "evaluate", "--device", "toaster", "--suites", "contrast", "--out", out)
    wrong(unsay, "no run there", "report", tmp_path / "none")
    assert not out.exists()


def test_a_suite_that_needs_data_says_where_it_is_looked_for(unsay, tmp_path, monkeypatch):
    monkeypatch.delenv("UNSAY_DATA_DIR", raising=False)
    wrong(unsay, "UNSAY_DATA_DIR", "evaluate", "--suites", "xstest-safe", "--judge", "rules", "--out", tmp_path / "run")


def test_a_file_of_settings_evaluates_too_and_options_go_before_it(unsay, tiny_folder, tmp_path, unmeasured_judge):
    """Precision, servers and judges with settings are said in a file."""
    (tmp_path / "mine.jsonl").write_text('{"id": "1", "prompt": "Hi", "kind": "benign"}\n')
    settings = {
        "model": "org/none", "model_settings": {"dtype": "bfloat16"},
        "evaluation": {"judge": "rules", "limit": 7, "generation": {"max_new_tokens": 3}},
    }  # fmt: skip
    (tmp_path / "my.yaml").write_text(yaml.safe_dump(settings))
    command = ["evaluate", "--config", tmp_path / "my.yaml", "--suite-file", tmp_path / "mine.jsonl"]
    assert unsay(*command, "--model", tiny_folder, "--judge", "rules", "--out", tmp_path / "run")[0] == 0
    made = read_config(tmp_path / "run" / "config.yaml")
    assert made.model == str(tiny_folder)
    assert made.model_settings.dtype == "bfloat16"
    assert (made.evaluation.judge, made.evaluation.limit, made.evaluation.generation.max_new_tokens) == (
        "rules",
        7,
        3,
    )
    wrong(unsay, "evaluation.judge", *command, "--judge", "nobody", "--out", tmp_path / "other")
    wrong(unsay, "my.yml: no such file", "evaluate", "--config", tmp_path / "my.yml", "--out", tmp_path / "other")


@pytest.mark.parametrize(
    ("options", "suites", "limit"),
    [
        ((), ["contrast"], 7),
        (("--suite-file", "mine.jsonl"), [], 7),
        (("--suite-file", "mine.jsonl", "--suites", "shapes,contrast", "--limit", "3"), ["shapes", "contrast"], 3),
    ],
)
def test_own_questions_are_asked_alone_or_beside_the_suites_that_are_named(
    unsay, tmp_path, monkeypatch, options, suites, limit
):
    asked = []

    def evaluate(config, out, *, suite_file, **_more):
        asked.append((list(config.evaluation.suites), config.evaluation.limit, suite_file is not None))
        return Scores(judge=JudgeInfo(name="rules"))

    monkeypatch.setattr("unsay.api.evaluate", evaluate)
    (tmp_path / "my.yaml").write_text("evaluation: {suites: [contrast], limit: 7}\n")
    assert unsay("evaluate", "--config", tmp_path / "my.yaml", *options, "--out", tmp_path / "run")[0] == 0
    assert asked == [(suites, limit, bool(options))]


def test_an_interruption_is_one_line(unsay, tmp_path, monkeypatch):
    def interrupted(*_args, **_more):
        raise KeyboardInterrupt

    monkeypatch.setattr("unsay.reports.write_report", interrupted)
    code, _, err = unsay("report", tmp_path)
    assert code == 130
    assert err.strip() == "unsay: interrupted; run the same command again to continue"


def test_an_odd_name_is_printed_as_it_is(unsay, tmp_path):
    """Names are not markup, and one with a line break is still one line."""
    wrong(unsay, "[bold]red[/]", "report", tmp_path / "[bold]red[/]")
    wrong(unsay, "two lines", "report", tmp_path / "two\nlines")


def test_what_is_piped_holds_no_control_codes(unsay, tiny_folder, tmp_path, unmeasured_judge):
    (tmp_path / "mine.jsonl").write_text('{"id": "1", "prompt": "Hi", "kind": "benign"}\n')
    command = ["evaluate", "--model", tiny_folder, "--judge", "rules", "--out", tmp_path / "run"]
    code, out, err = unsay(*command, "--suite-file", tmp_path / "mine.jsonl")
    assert code == 0
    assert "\x1b" not in out + err
    assert re.match(r"Evaluate the original model: \d+ s\n", out)
    assert out.rstrip().endswith("report.html")


def test_a_bug_still_shows_where_it_is(monkeypatch, tmp_path):
    def broken(*_args, **_more):
        raise ZeroDivisionError

    monkeypatch.setattr("unsay.reports.write_report", broken)
    monkeypatch.setattr(sys, "argv", ["unsay", "report", str(tmp_path)])
    with pytest.raises(ZeroDivisionError):
        cli.main()
