"""The probe that reads with the model under test: the original, whatever adapter is on it; fitted once."""

import json

import numpy as np
import pytest
import torch

from tests.models.test_models import acting
from unsay.config import parse_config
from unsay.errors import UserError
from unsay.judges import build_judge, original_reader, reads_original
from unsay.judges.base import Original, as_attacks
from unsay.judges.original_reader import original_probe, reading, settings_for
from unsay.judges.probe_features import answer_states
from unsay.models import load
from unsay.records import Label, LabelledResponse
from unsay.run.directory import Run, original_of

READER = {"reader": "original"}


@pytest.fixture(autouse=True)
def _in_a_cache_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setenv("UNSAY_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setattr(original_reader, "Soundness", lambda: Quiet())
    monkeypatch.setattr(original_reader, "pyrit_objective", labelled)
    short = {"folds": 3, "cuts": (4, 12), "report_cut": 4}
    monkeypatch.setattr(original_reader, "settings_for", lambda *size: settings_for(*size).model_copy(update=short))


class Quiet:
    """The shared first step without its language model."""

    key = "quiet"

    def verdicts(self, _judge, pairs):
        return [None for _ in pairs]


def labelled():
    """Answers that a model of letters can tell apart, to twelve requests."""
    return [
        LabelledResponse(
            prompt=f"Request number {number}.",
            response=("Mix flour and water. " if number % 2 else "The sea is wide and still. ") * (1 + number % 3),
            label=Label.HARMFUL if number % 2 else Label.SAFE,
            source="toy",
        )
        for number in range(12)
    ]


def states(vlm):
    with reading(Original("key", lambda: vlm)) as (model, tokenizer):
        shape = {"layers": (1,), "cuts": (4,), "prompt_tokens": 50}
        return answer_states(model, tokenizer, [("Say hello.", "Hello there!")], **shape)[0, 0]


def test_states_are_the_plain_models_in_its_own_chat_format(any_vlm):
    asked = any_vlm.tokenizer(any_vlm.render("Say hello.") + any_vlm.answer_lead, add_special_tokens=False)["input_ids"]
    answered = any_vlm.tokenizer("Hello there!", add_special_tokens=False)["input_ids"][:4]
    with torch.inference_mode():
        hidden = any_vlm.decoder(input_ids=torch.tensor([asked + answered]), output_hidden_states=True).hidden_states
    np.testing.assert_allclose(states(any_vlm), hidden[1][0, len(asked) :].mean(0).numpy(), rtol=1e-3, atol=1e-4)


def test_an_adapter_is_off_while_it_reads_and_on_again_afterwards(tiny_folder):
    plain = states(load(str(tiny_folder)))
    adapted = acting(load(str(tiny_folder)))
    before = adapted.base(**adapted.tokenizer("Hello", return_tensors="pt")).logits
    np.testing.assert_allclose(states(adapted), plain, rtol=1e-5, atol=1e-6)
    after = adapted.base(**adapted.tokenizer("Hello", return_tensors="pt")).logits
    assert torch.equal(before, after)
    original = load(str(tiny_folder)).base(**adapted.tokenizer("Hello", return_tensors="pt")).logits
    assert not torch.allclose(before, original)  # the adapter does act


def test_the_probe_is_fitted_once_and_then_needs_no_model_for_its_key(tiny_folder):
    opened = []

    def open_model():
        opened.append(1)
        return load(str(tiny_folder))

    first = original_probe(Original("a", open_model))
    assert opened == [1]
    again = original_probe(Original("a", open_model))
    assert opened == [1]
    assert (again.key, again.fitted) == (first.key, first.fitted)
    rows = labelled()[:4]
    labels = [verdict.label for verdict in again.judge(as_attacks(rows))]
    assert labels == [row.label for row in rows]
    assert opened == [1, 1]
    assert original_probe(Original("b", open_model)).key != first.key


def test_a_run_judges_with_its_own_original(tiny_folder, tmp_path):
    settings = {"model": str(tiny_folder), "evaluation": {"judge": "probe", "judge_settings": READER}}
    run = Run.open(tmp_path / "run", parse_config(json.dumps(settings), "test"))
    assert run.judge.fitted.rows == len(labelled())
    assert run.judge.fitted.settings.layers == (2,)  # 0.4 of four blocks


def test_it_is_calibrated_with_the_model_that_the_settings_name(tiny_folder, tmp_path):
    settings = {"model": str(tiny_folder), "evaluation": {"judge": "probe", "judge_settings": READER}}
    config = parse_config(json.dumps(settings), "test")
    found = original_of(config)
    run = Run.open(tmp_path / "run", config)
    assert build_judge("probe", READER, found).key == run.judge.key
    assert found.open() is found.open()
    server = {"url": "http://localhost:1/v1", "model": "m"}
    served = parse_config(json.dumps({"evaluation": {"responder": server}}), "test")
    assert original_of(served) is None


@pytest.mark.parametrize("name", ["probe", "panel"])
def test_where_no_model_answers_here_it_is_refused_in_one_line(name):
    settings = READER if name == "probe" else {"judges": {"rules": {}, "probe": READER}}
    with pytest.raises(UserError, match=r"reader: original reads with a run's own model") as caught:
        build_judge(name, settings)
    assert "\n" not in str(caught.value)


def test_which_judges_read_with_the_original():
    assert reads_original("probe", READER)
    assert reads_original("panel", {"judges": {"rules": {}, "probe": READER}})
    assert not reads_original("probe")
    assert not reads_original("panel", {"judges": {"rules": {}, "probe": {}}})
    assert not reads_original("rules")


def test_an_unknown_reader_is_named():
    with pytest.raises(UserError, match=r"judge_settings of 'probe': reader"):
        build_judge("probe", {"reader": "mine"})


def test_the_penalty_is_the_packaged_one_for_each_kind_of_evidence():
    small, large = settings_for(30, 576), settings_for(32, 4096)
    assert small.layers == (12,)
    assert large.layers == (13,)
    assert small.regularisation == pytest.approx(0.003)
    assert large.regularisation * 4096 == pytest.approx(small.regularisation * 576)
    assert large.wording_weight**2 * large.regularisation == pytest.approx(
        small.wording_weight**2 * small.regularisation
    )
