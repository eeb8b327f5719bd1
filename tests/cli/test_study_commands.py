"""`unsay study` on the command line."""

from functools import partial

import pytest
import yaml

from helpers import study_of_tiny, synthetic_study, tiny
from unsay import api
from unsay.files import write_rows


@pytest.fixture
def run(unsay):
    return partial(unsay, "study")


def test_packaged_studies_are_listed(run):
    code, out, _ = run("--list")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == [
        "coverage",
        "methods",
        "mixture",
        "paper-exact",
        "paper",
        "robust",
        "samples",
    ]
    assert "Is textual unlearning all you need?" in out


@pytest.mark.parametrize(
    ("arguments", "needle"),
    [
        (("nothing",), "unknown 'nothing'; known are coverage"),
        (("samples", "--seeds", "a"), "--seeds: 'a': expected whole numbers"),
        (("samples", "--launcher", "slurm"), "--launcher: unknown 'slurm'"),
        (("samples", "--arms", "few"), "--arms: unknown arm 'few'"),
        (("samples", "--device", "gpu"), "device: 'gpu' cannot be used here: "),
        (("samples", "--seeds", "-1"), "--seeds: '-1': a seed is at least 0"),
        (("samples", "--base", "none"), "--base: unknown 'none'"),
        (("methods", "--model", "org/other-7B", "--device", "cuda"), "model 'org/other-7B': the base is `demo`"),
    ],
)
def test_mistakes_are_one_line_with_exit_code_2(run, tmp_path, arguments, needle):
    code, _, err = run(*arguments, "--out", tmp_path / "out")
    assert code == 2
    assert needle in err
    assert err.strip().count("\n") == 0


def test_a_study_file_is_run_and_its_table_printed(run, tiny_folder, tmp_path, unmeasured_judge):
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


@pytest.fixture
def without_runs(monkeypatch):
    """In place of a study's runs a result that is made up, of which one arm failed; gives what was asked for."""
    asked = {}

    def study(chosen, folder, **more):
        asked.update(more, study=chosen, folder=folder)
        return synthetic_study.study(rules=("steps",), seeds=(0,))

    monkeypatch.setattr(api, "study", study)
    return asked


def test_arms_that_failed_are_named_last_and_in_the_exit_code(run, without_runs, tmp_path):
    code, out, err = run("samples", "--out", tmp_path)
    assert code == 1
    assert out.rstrip().endswith("study.html")
    assert err == "unsay: 1 of 6 arms has failed runs: rmu@steps; the same command tries them again\n"


def test_some_arms_are_asked_for_and_the_reference_that_they_need_is_said(run, without_runs, tmp_path):
    _, out, _ = run("paper", "--arms", "text-sft", "--quick", "--out", tmp_path)
    assert list(without_runs["study"].arms) == ["textual-unlearning", "text-sft"]
    assert "Also textual-unlearning, the reference: what it uses is the budget of the others." in out
    assert without_runs["command"] == "unsay study paper --quick --arms text-sft"
    _, out, _ = run("methods", "--arms", "npo,dpo", "--out", tmp_path)
    assert list(without_runs["study"].arms) == ["npo", "dpo"]
    assert "Also" not in out
