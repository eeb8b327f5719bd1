"""`unsay study` on the command line."""

import sys

import pytest
import yaml

import study_of_tiny
import tiny
from unsay import cli
from unsay.files import write_rows


@pytest.fixture
def run(monkeypatch, capsys):
    """Calls `unsay study ARGS` in this process; gives (exit code, stdout, stderr)."""

    def call(*arguments):
        monkeypatch.setattr(sys, "argv", ["unsay", "study", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return ended.value.code, said.out, said.err

    return call


def test_packaged_studies_are_listed(run):
    code, out, _ = run("--list")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == ["coverage", "methods", "mixture", "paper", "samples"]
    assert "Is textual unlearning all you need?" in out


@pytest.mark.parametrize(
    ("arguments", "needle"),
    [
        (("nothing",), "unknown 'nothing'; known are coverage"),
        (("samples", "--seeds", "a"), "--seeds: 'a': expected whole numbers"),
        (("samples", "--launcher", "slurm"), "--launcher: unknown 'slurm'"),
    ],
)
def test_mistakes_are_one_line_with_exit_code_2(run, tmp_path, arguments, needle):
    code, _, err = run(*arguments, "--out", tmp_path / "out")
    assert code == 2
    assert needle in err
    assert err.strip().count("\n") == 0


def test_a_study_file_is_run_and_its_table_printed(run, tiny_folder, tmp_path, monkeypatch):
    monkeypatch.delattr("unsay.judging.rules.RulesJudge.accuracy")  # measures for seconds what is of no account here
    write_rows(tmp_path / "rows.jsonl", tiny.examples(12))
    study = study_of_tiny.study("pocket", "rows.jsonl", budget={}, seeds=[3], title="Two of a kind")
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(study.model_dump(mode="json")))
    code, out, _ = run(tmp_path / "mine.yaml", "--model", tiny_folder, "--seeds", "0", "--out", tmp_path / "out")
    assert code == 0
    assert "sft@steps, seed 0: " in out
    assert "Equal steps: 3 steps" in out
    assert "Refusal SFT" in out
    assert out.rstrip().endswith("study.html")
    assert "Two of a kind" in (tmp_path / "out" / "study.html").read_text()
