"""`unsay robustness` as a person meets it: what it prints and writes, and one line for every mistake."""

import json
import shutil

import pytest

from unsay import api
from unsay.errors import UserError
from unsay.robustness import CHECKS, choose_checks
from unsay.run.directory import Run
from unsay.run.export import export
from unsay.scoring.robustness import read_robustness

pytestmark = pytest.mark.usefixtures("unmeasured_judge")


@pytest.fixture
def small(monkeypatch):
    """Two requests per suite, and one quick check."""
    monkeypatch.setattr("unsay.robustness.battery.REQUESTS", 2)
    monkeypatch.setattr("unsay.robustness.sampling.QUICK_ANSWERS", 4)


def test_it_prints_a_table_and_writes_the_report_and_the_card(unlearned, unsay, small, tmp_path):
    code, out, _ = unsay("robustness", unlearned, "--checks", "samples", "--quick")
    assert code == 0
    assert "Ask again and again" in out
    assert f"Numbers: {unlearned / 'robustness.json'}" in out
    assert 'id="robustness"' in (unlearned / "report.html").read_text()
    assert [row.check for row in read_robustness(unlearned).checks] == ["samples"]
    export(unlearned, tmp_path / "exported")
    card = (tmp_path / "exported" / "README.md").read_text()
    assert "## Does it hold?" in card
    assert "| Ask again and again | AdvBench held out |" in card


def test_an_adapter_from_elsewhere_is_attacked_in_a_directory_of_its_own(unlearned, unsay, small, tmp_path):
    out = tmp_path / "theirs"
    arguments = ("--config", unlearned / "config.yaml", "--adapter", unlearned / "adapter", "--out", out)
    code, printed, errors = unsay("robustness", *arguments, "--checks", "samples", "--quick")
    assert (code, errors) == (0, "")
    assert "Report" not in printed  # there are no scores
    mine = api.robustness(unlearned, checks=["samples"], quick=True)
    assert read_robustness(out).checks[0].numbers == mine.checks[0].numbers


def test_another_adapter_does_not_take_the_place_of_the_runs_own(unlearned, unsay, small, tmp_path):
    other = shutil.copytree(unlearned / "adapter", tmp_path / "other")
    api.robustness(unlearned, checks=["samples"], quick=True, adapter=other)  # the same weights
    before = (unlearned / "robustness.json").read_bytes()
    config = other / "adapter_config.json"
    config.write_text(config.read_text().replace('"lora_alpha": 16.0', '"lora_alpha": 8.0'))
    assert "has an adapter of its own" in refusal(unsay, unlearned, "--adapter", other, "--checks", "samples")
    assert (unlearned / "robustness.json").read_bytes() == before


def test_it_ends_with_1_where_every_check_has_failed(unlearned, unsay, small, monkeypatch):
    def run(_bench):
        raise UserError("it is raining")

    monkeypatch.setattr("unsay.robustness.sampling.run", run)
    monkeypatch.setitem(CHECKS, "samples", CHECKS["samples"].__class__(**{**vars(CHECKS["samples"]), "run": run}))
    code, out, _ = unsay("robustness", unlearned, "--checks", "samples")
    assert code == 1
    assert "failed: it is raining" in out


def refusal(unsay, *arguments):
    code, _, errors = unsay("robustness", *arguments)
    assert code == 2
    assert errors.count("\n") == 1
    return errors


def test_mistakes_are_one_line_each_and_cost_nothing(unlearned, unsay, tmp_path):
    before = sorted(path.name for path in unlearned.iterdir())
    assert "give RUN_DIR; or" in refusal(unsay)
    assert "give RUN_DIR; or" in refusal(unsay, unlearned, "--out", tmp_path / "x")
    assert "an adapter is needed" in refusal(unsay, "--model", "pocket", "--out", tmp_path / "x")
    assert "no run there" in refusal(unsay, tmp_path / "nothing")
    assert not (tmp_path / "nothing").exists()
    assert "unknown check 'sample'; known are relearn, samples" in refusal(unsay, unlearned, "--checks", "sample")
    assert "holds a run that has unlearned" in refusal(
        unsay, "--config", unlearned / "config.yaml", "--adapter", unlearned / "adapter", "--out", unlearned
    )
    assert sorted(path.name for path in unlearned.iterdir()) == before


def test_a_run_without_adapter_and_one_of_another_version_are_refused(unlearned, unsay):
    shutil.rmtree(unlearned / "adapter")
    assert "has no adapter: run the same `unsay unlearn` again" in refusal(unsay, unlearned)
    made = json.loads((unlearned / "environment.json").read_text())
    (unlearned / "environment.json").write_text(json.dumps({**made, "format": 1}))
    assert "made by an earlier version" in refusal(unsay, unlearned)


def test_without_names_the_short_battery_has_the_quick_checks_and_the_long_one_all():
    assert [check.name for check in choose_checks(quick=True)] == [
        "relearn",
        "samples",
        "prefill",
        "quantise",
        "wording",
    ]
    assert choose_checks() == list(CHECKS.values())
    assert [check.name for check in choose_checks(["prune", "image"], quick=True)] == ["image", "prune"]


def test_a_reopened_run_keeps_its_results_and_its_settings(unlearned):
    scores = (unlearned / "scores.json").read_bytes()
    run = Run.reopen(unlearned)
    run.stages.run("another", "Another", [], [unlearned / "scores.json"], lambda _spent: 1, load=lambda: 1)
    assert (unlearned / "scores.json").read_bytes() == scores
