"""The battery on a tiny run: what is asked, kept, reused and reported."""

import shutil
from pathlib import Path

import pytest

from unsay import api
from unsay.config import parse_config
from unsay.robustness import CHECKS
from unsay.robustness.battery import run_battery
from unsay.run.directory import Adapter, Run
from unsay.scoring.robustness import Subject, read_robustness

pytestmark = pytest.mark.usefixtures("unmeasured_judge")


@pytest.fixture(scope="module")
def _finished(unmeasured_judge, tiny_folder, examples, tmp_path_factory):
    out = tmp_path_factory.mktemp("finished") / "run"
    config = parse_config(
        f"model: {tiny_folder}\n"
        f"data: {{examples: {examples}, recipe: {{probe: 1}}}}\n"
        "train: {steps: 3, batch: {forget: 2, refuse: 2, retain: 2}}\n"
        "evaluation: {judge: rules, suites: [contrast], limit: 3, generation: {max_new_tokens: 4}}\n",
        "test",
    )
    api.unlearn(config, out)
    return out


@pytest.fixture
def unlearned(_finished, tmp_path):
    return Path(shutil.copytree(_finished, tmp_path / "run"))


def test_the_quick_battery_of_a_tiny_run(unlearned, monkeypatch):
    monkeypatch.setattr("unsay.robustness.battery.REQUESTS", 2)
    run = Run.reopen(unlearned)
    result = run_battery(run, Adapter.open(unlearned / "adapter"), [CHECKS["samples"], CHECKS["prefill"]], quick=True)
    assert [row.failed for row in result.checks] == ["", ""]
    assert read_robustness(unlearned) == result
    assert len(result.unattacked) == 12
    assert result.check("samples").number("harmful@16", Subject.UNLEARNED, "advbench").n == 2
