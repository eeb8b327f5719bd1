"""Sharpness-aware steps: against a quadratic by hand and against a plain computation, with every method, resumed."""

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from helpers import tiny
from helpers.training import train
from tests.training.test_trainer import METHOD, StopError, adapter_hash, changed, go, interrupted, metrics
from unsay.methods import RoleBatch, build_method
from unsay.models import LoraSettings, attach
from unsay.training import TrainSettings
from unsay.training.encode import Encoder, collate
from unsay.training.head import role_views
from unsay.training.plan import steps_of
from unsay.training.sharpness import uphill

RADIUS = 0.5
SHARP = changed(sharpness=RADIUS, warmup_steps=0, max_grad_norm=1e6)
METHODS = ["textual-unlearning", "npo", "rmu", "task-vector"]


def test_a_quadratic_by_hand():
    """L = ½ (a² + 4 b²) at (3, 1) has gradient (3, 4) of length 5; ρ 1 leads to (3.6, 1.8), with (3.6, 7.2)."""
    a, b = nn.Parameter(torch.tensor([3.0])), nn.Parameter(torch.tensor([1.0]))

    def loss():
        return (a.square() + 4 * b.square()).sum() / 2

    loss().backward()
    with uphill([a, b], 1.0):
        assert (a.item(), b.item()) == (pytest.approx(3.6), pytest.approx(1.8))
        assert a.grad is b.grad is None
        loss().backward()
    assert (a.item(), b.item()) == (3.0, 1.0)
    assert (a.grad.item(), b.grad.item()) == (pytest.approx(3.6), pytest.approx(7.2))


def test_afterwards_the_parameters_are_the_same_bits_whatever_happened():
    values = torch.randn(1000, generator=torch.Generator().manual_seed(0)) * 1e3
    one, untouched, flat = (nn.Parameter(values.clone()) for _ in range(3))
    one.grad, flat.grad = torch.full_like(values, 0.1), torch.zeros_like(values)
    with pytest.raises(StopError), uphill([one, untouched, flat], 0.1):
        assert not torch.equal(one, values)
        raise StopError
    assert all(torch.equal(parameter, values) for parameter in (one, untouched, flat))
    flat.grad = torch.zeros_like(values)
    with uphill([flat, untouched], 0.1):
        assert torch.equal(flat, values), "where the gradient is 0 there is no way up"


@pytest.mark.parametrize("accumulate", [1, 2])
def test_a_step_uses_the_gradient_of_the_plain_computation(tiny_vlm, tmp_path, monkeypatch, accumulate):
    used, step = [], torch.optim.AdamW.step

    def watched(optimizer, *arguments, **more):
        used.append([p.grad.clone() for p in optimizer.param_groups[0]["params"]])
        return step(optimizer, *arguments, **more)

    monkeypatch.setattr(torch.optim.AdamW, "step", watched)
    settings = SHARP.model_copy(update={"steps": 1, "accumulate": accumulate})
    go(tiny_vlm, tmp_path, settings)

    vlm = attach(tiny.llava(), LoraSettings(), seed=0)
    parameters = [p for p in vlm.model.parameters() if p.requires_grad]
    (rows,) = steps_of(tiny.examples(), METHOD.needs, settings)
    batch = collate([Encoder(vlm, rows, settings).of(row) for row in rows])

    def gradients():
        loss = METHOD.loss(RoleBatch(role_views(vlm, batch, METHOD.needs, 512))).total
        return torch.autograd.grad(loss, parameters)

    below = gradients()
    length = torch.sqrt(sum(g.square().sum() for g in below))
    with torch.no_grad():
        for parameter, g in zip(parameters, below, strict=True):
            parameter += RADIUS * g / length
    above = gradients()
    assert max(float((g - h).abs().max()) for g, h in zip(below, above, strict=True)) > 1e-3, "or nothing was tested"
    for got, wanted in zip(used[0], above, strict=True):
        torch.testing.assert_close(got, wanted, rtol=1e-3, atol=1e-5)


def test_tokens_count_once_and_operations_twice_and_the_loss_is_that_of_the_adapter(tiny_vlm, tmp_path):
    plain = go(tiny.llava(), tmp_path / "plain", SHARP.model_copy(update={"sharpness": 0.0}))
    sharp = go(tiny_vlm, tmp_path / "sharp", SHARP)
    assert sharp.tokens == plain.tokens
    assert sharp.flops == pytest.approx(2 * plain.flops)
    before, after = metrics(tmp_path / "plain"), metrics(tmp_path / "sharp")
    assert after[0]["loss"] == before[0]["loss"]
    assert after[-1]["loss"] != before[-1]["loss"]
    assert all(row["sharpness"] > 0 for row in after)
    assert "sharpness" not in before[0]


@pytest.mark.parametrize("name", METHODS)
def test_it_composes_with_methods_and_resumes_to_the_same_bits(tmp_path, one_thread, name):
    method = build_method(name)
    go(tiny.llava(), tmp_path / "whole", SHARP, method)
    interrupted(tiny.llava(), tmp_path / "cut", 5, SHARP, method=method)
    go(tiny.llava(), tmp_path / "cut", SHARP, method)
    assert adapter_hash(tmp_path / "cut") == adapter_hash(tmp_path / "whole")
    assert metrics(tmp_path / "cut") == metrics(tmp_path / "whole")


def test_what_is_saved_on_a_signal_is_never_the_raised_adapter(tmp_path, one_thread, monkeypatch):
    """SIGTERM is looked for before each part of a batch, and not while the adapter stands elsewhere."""
    from unsay import preemption
    from unsay.training import trainer

    looked, whole = [], trainer.Trainer.end_if_requested

    def look(self, counters):
        looked.append(torch.cat([p.detach().flatten() for p in self.parameters.values()]))
        return whole(self, counters)

    monkeypatch.setattr(trainer.Trainer, "end_if_requested", look)
    monkeypatch.setattr(preemption, "end_requested", lambda: len(looked) == 4)
    settings = SHARP.model_copy(update={"checkpoint_every": 10})
    with pytest.raises(preemption.PreemptedError, match="step 3"):
        go(tiny.llava(), tmp_path, settings)
    monkeypatch.undo()
    go(tiny.llava(), tmp_path, settings)
    go(tiny.llava(), tmp_path / "whole", settings)
    assert adapter_hash(tmp_path) == adapter_hash(tmp_path / "whole")


def test_a_gradient_that_is_not_a_number_changes_nothing(tiny_vlm, tmp_path):
    from tests.training.test_trainer import Spoiled, not_a_number

    result = go(tiny_vlm, tmp_path, SHARP, Spoiled(8, not_a_number))
    assert result.stopped.startswith("the loss or its gradient was not a number at step 5"), "two losses a step"
    assert all(bool(p.isfinite().all()) for p in result.vlm.model.parameters())


def test_ordinary_steps_have_the_keys_of_before():
    assert "sharpness" not in TrainSettings().decisive()
    assert TrainSettings(sharpness=0.1).decisive()["sharpness"] == 0.1
    with pytest.raises(ValidationError):
        TrainSettings(sharpness=-0.1)


def test_it_learns(tiny_vlm, tmp_path):
    settings = SHARP.model_copy(update={"steps": 20, "sharpness": 0.1})
    train(tiny_vlm, tiny.examples(), METHOD, settings, tmp_path, probe_examples=tiny.probe())
    rows = metrics(tmp_path)
    assert rows[-1]["refuse_ce"] < rows[0]["refuse_ce"] - 1
