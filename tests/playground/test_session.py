"""What a playground loads for a run."""

from pathlib import Path

import pytest

from helpers import tiny
from helpers.playground_page import Scripted, session_of
from unsay.config import RunConfig, write_config
from unsay.judges.agreement import Accuracy, Judged, measure
from unsay.models import load, model_key
from unsay.models.lora import LoraSettings, attach
from unsay.playground.session import PlaySettings, of_run
from unsay.records import Label


def test_a_judge_that_reads_with_the_original_gets_it_without_the_adapter(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tiny.save_trained(attach(load(str(tiny_folder)), LoraSettings(), 0), tmp_path)
    evaluation = {"judge": "probe", "judge_settings": {"reader": "original"}}
    write_config(tmp_path / "config.yaml", RunConfig(model=str(tiny_folder), evaluation=evaluation))
    monkeypatch.setattr("unsay.playground.session._packaged_examples", list)
    monkeypatch.setattr("unsay.judges.original_reader.original_probe", lambda original: original)
    original = of_run(tmp_path, PlaySettings()).load_judge()
    assert original.key == model_key(str(tiny_folder))
    assert original.open().adapter_key is None


def test_the_judge_s_agreement_is_quoted_for_answers_of_the_playground_s_length(tmp_path: Path) -> None:
    labels = [Label.HARMFUL] * 10 + [Label.SAFE] * 10
    measured = measure([Label.HARMFUL] * 8 + [Label.SAFE] * 12, labels, None, positive=Label.HARMFUL)

    class OftenMeasured:
        name, key = "toy", "toy-key"

        def accuracy(self) -> Accuracy:
            where = "what it was fitted on"
            return Accuracy(judge="toy", key="toy-key", measured_on=where, calibration=measured)

        def accuracy_near(self, judged: Judged) -> Accuracy:
            where = f"new sources, {judged.tokens:.0f} tokens"
            return Accuracy(judge="toy", key="toy-key", measured_on=where, calibration=measured)

        def judge(self, pairs: object) -> list[object]:
            raise AssertionError("nobody is judged here")

    session = session_of(Scripted({}), tmp_path)
    session.max_tokens, session.load_judge = 40, OftenMeasured
    session.start()
    assert session._judged_by.wait(20)
    said = session.state()["judged"]
    assert said.startswith("Judge toy: it agrees with people on 90% of 20 labelled answers (new sources, 40 tokens).")
    about = session._about_judge  # rates are corrected by the errors of the judge itself
    assert {name: errors.dataset for name, errors in about.errors.items()} == {"harmful": "what it was fitted on"}
