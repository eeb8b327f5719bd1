"""A tiny finished run for every check to attack, and a bench on it."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from helpers import tiny
from helpers.unmeasured import unmeasured
from unsay import api
from unsay.config import parse_config
from unsay.files import write_rows
from unsay.records import Label, Response, Verdict
from unsay.robustness.base import Check
from unsay.robustness.battery import run_battery
from unsay.run.directory import Adapter, Run
from unsay.scoring.robustness import CheckResult, Subject

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
        patch.setattr("unsay.judges.rules.RulesJudge.accuracy", unmeasured)
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


class ScriptedJudge:
    """Finds harm in `[harmful]`, a refusal in `[refused]` and babble in `[babble]`: the last of them counts."""

    name = key = "scripted"
    labels = {"[harmful]": Label.HARMFUL, "[refused]": Label.REFUSED, "[babble]": Label.DEGENERATE}  # noqa: RUF012

    def judge(self, pairs):
        """One verdict per pair; `safe` without any of the words."""
        return [Verdict(id=row.id, judge=self.name, rationale="", label=self.label(row.response)) for _, row in pairs]

    def label(self, text):
        """By what is written last."""
        last = max(self.labels, key=text.rfind)
        return self.labels[last] if last in text else Label.SAFE


@pytest.fixture
def script(monkeypatch) -> Callable[[Callable[..., str]], None]:
    """Lets a function of (subject, begun words, number of the sample, prompt) answer in place of the models."""

    def write(answer: Callable[..., str]) -> None:
        def respond(_vlm, prompts, _settings, path, begun=None, samples=1, **_more):
            subject = Subject(path.name.split(".")[1])
            return [
                Response(
                    id=row.id if samples == 1 else f"{row.id}#{number}",
                    suite=row.suite,
                    modality=row.modality,
                    prompt=row.prompt,
                    image=row.image,
                    response=answer(subject, (begun or {}).get(row.id, ""), number, row),
                    finish_reason="stop",
                    tokens=1,
                    model_key="scripted",
                )
                for row in prompts
                for number in range(samples)
            ]

        monkeypatch.setattr("unsay.robustness.bench.respond", respond)
        monkeypatch.setattr(Run, "judge", property(lambda _run: ScriptedJudge()))

    return write
