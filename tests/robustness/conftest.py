"""A tiny finished run for every check to attack, and a bench on it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers import tiny
from unsay import api
from unsay.config import parse_config
from unsay.files import write_rows
from unsay.robustness.base import Check
from unsay.robustness.battery import run_battery
from unsay.run.directory import Adapter, Run
from unsay.scoring.robustness import CheckResult

REQUESTS = 2


@pytest.fixture(scope="session")
def _finished(tiny_folder, tmp_path_factory):
    out = tmp_path_factory.mktemp("robustness")
    write_rows(out / "examples.jsonl", tiny.examples(12))
    config = parse_config(
        f"model: {tiny_folder}\n"
        f"data: {{examples: {out / 'examples.jsonl'}, recipe: {{probe: 1}}}}\n"
        "train: {steps: 3, batch: {forget: 2, refuse: 2, retain: 2}}\n"
        "evaluation: {judge: rules, suites: [contrast], limit: 3, generation: {max_new_tokens: 4}}\n",
        "test",
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.delattr("unsay.judges.rules.RulesJudge.accuracy", raising=False)
        api.unlearn(config, out / "run")
    return out / "run"


@pytest.fixture
def unlearned(_finished, tmp_path) -> Path:
    """The directory of a run that has unlearned, judged by rules; each test gets its own copy."""
    return Path(shutil.copytree(_finished, tmp_path / "run"))


@pytest.fixture
def attack(unlearned, unmeasured_judge, monkeypatch) -> Callable[..., CheckResult]:
    """Runs one check on the tiny run, two requests per suite; gives its result, which has not failed."""
    monkeypatch.setattr("unsay.robustness.battery.REQUESTS", REQUESTS)

    def run(check: Check, *, quick: bool = True, adapter: Path | None = None) -> CheckResult:
        monkeypatch.setattr("unsay.robustness.battery.CHECKS", {check.name: check})
        opened = Run.reopen(unlearned)
        result = run_battery(opened, Adapter.open(adapter or opened.adapter_folder), [check], quick=quick)
        assert not result.check(check.name).failed
        return result.check(check.name)

    return run
