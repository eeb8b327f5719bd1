"""RepSelect's edit: its singular values by hand, its gradient, how far it goes, and that a killed run ends the same."""

import json

import pytest
import torch
from pydantic import ValidationError
from safetensors.torch import load_file

from helpers import tiny
from helpers.training import train
from tests.training.test_logprobs import encoded_examples, naive, trained_looking
from tests.training.test_trainer import StopError, adapter_hash, changed, interrupted, metrics, weights_hash
from unsay.errors import UserError
from unsay.methods import build_method
from unsay.models import LoraSettings, detach, load_adapter
from unsay.records import Role
from unsay.training import AdversarialSettings, plan_training, weight_edit
from unsay.training.encode import collate, encode
from unsay.training.head import role_views
from unsay.training.trainer import PROBE_NEEDS
from unsay.training.weight_edit import damped, largest_scale, weight_gradients

METHOD = build_method("rep-select", {"components": 0.1, "max_kl": 0.02, "rank": 8})
SETTINGS = changed(steps=3, warmup_steps=0)


def orthogonal(rows, columns, seed):
    return torch.linalg.qr(torch.randn(rows, columns, generator=torch.Generator().manual_seed(seed)).double())[0]


def go(vlm, folder, settings=SETTINGS, method=METHOD, **more):
    return train(vlm, tiny.examples(), method, settings, folder, probe_examples=tiny.probe(), **more)


# ---------------------------------------------------------------------------------------------------------- by hand


@pytest.mark.parametrize("shape", [(6, 9), (9, 6)], ids=["wide", "tall"])
def test_leading_components_are_damped_by_hand(shape):
    """8, 4, 2, 1, ½, ¼ with q 3: divided by (4, 2, 1) on both sides, the first are ½, 1, 2; the others stay."""
    u, v = orthogonal(shape[0], 6, 0), orthogonal(shape[1], 6, 1)
    s = torch.tensor([8.0, 4.0, 2.0, 1.0, 0.5, 0.25], dtype=torch.float64)
    left, values, right = damped((u * s @ v.T).float(), 0.5)
    assert torch.allclose(values, torch.tensor([0.5, 1.0, 2.0, 1.0, 0.5, 0.25]), rtol=1e-4)
    # Both sides one after the other, as the authors do it.
    ratio = torch.tensor([4.0, 2.0, 1.0], dtype=torch.float64)
    gradient = u * s @ v.T
    once = gradient - (gradient @ v[:, :3]) * (1 - 1 / ratio) @ v[:, :3].T
    twice = once - u[:, :3] * (1 - 1 / ratio) @ (u[:, :3].T @ once)
    torch.testing.assert_close(left * values @ right.T, twice.float(), rtol=1e-4, atol=1e-5)


def test_a_gradient_with_too_few_components_is_refused():
    u, v = orthogonal(8, 2, 0), orthogonal(8, 2, 1)
    with pytest.raises(UserError, match=r"of layer\.3 has 2 components, and the 4 leading ones are damped"):
        damped((u @ v.T).float(), 0.5, "layer.3")
    with pytest.raises(UserError, match="a linear has 0 components"):
        damped(torch.zeros(4, 4), 0.1)


@pytest.mark.parametrize("start", [1e-6, 0.3, 1e5])
def test_the_step_is_the_largest_that_stays_below_the_limit(start):
    """KL = 2 t² reaches 0.02 at t 0.1, and breaks beyond t 10."""
    scale, kl = largest_scale(lambda t: 2 * t * t if t < 10 else float("nan"), 0.02, start)
    assert kl == pytest.approx(2 * scale**2)
    assert kl <= 0.02
    assert scale == pytest.approx(0.1, rel=0.03)


def test_a_model_that_never_or_always_changes_is_an_error():
    with pytest.raises(UserError, match="no edit is large enough"):
        largest_scale(lambda _t: 0.0, 0.01, 1.0)
    with pytest.raises(UserError, match="no edit is small enough"):
        largest_scale(lambda _t: 1.0, 0.01, 1.0)


def test_gradients_of_frozen_weights_are_autograds_own(tiny_vlm):
    vlm = trained_looking(tiny_vlm)
    forget = [row for row in encoded_examples(vlm) if row.role is Role.FORGET]

    class Stub:
        def __init__(self):
            self.vlm, self.settings, self.counters, self.flops = vlm, SETTINGS, (0, 0, 0.0), 0.0
            self.parameters = {name: p for name, p in vlm.model.named_parameters() if p.requires_grad}

        def collated(self, examples):
            return collate(examples)

        def end_if_requested(self, _counters):
            pass

    got = weight_gradients(Stub(), [forget[:2], forget[2:]])
    assert all(p.grad is None for p in vlm.model.parameters())
    modules = {name: module for name, module in vlm.model.named_modules() if hasattr(module, "lora_A")}
    weights = {name: module.base_layer.weight for name, module in modules.items()}
    assert got.keys() == weights.keys()
    for module in modules.values():  # a fused linear gives its frozen weight no gradient: go PEFT's way
        module.base_layer.weight.requires_grad_(True)
        module.forward = super(type(module), module).forward
    loss = -sum(logp.mean() for logp, _ in naive(vlm, forget))
    wanted = torch.autograd.grad(loss, list(weights.values()))
    for name, expected in zip(weights, wanted, strict=True):
        torch.testing.assert_close(got[name], expected, rtol=1e-3, atol=1e-5)


# ------------------------------------------------------------------------------------------------------------- training


def probe_kl(vlm):
    batch = collate([encode(vlm, row, max_prompt_tokens=256, max_answer_tokens=48) for row in tiny.probe()])
    with torch.no_grad():
        view = role_views(vlm, batch, PROBE_NEEDS, 64)[Role.RETAIN]
    return float(view.per_example(view.kl).mean())


def forget_ce(vlm):
    batch = collate([row for row in encoded_examples(vlm, 4) if row.role is Role.FORGET])
    with torch.no_grad():
        return float(role_views(vlm, batch, weight_edit.FORGET, 64)[Role.FORGET].cross_entropy().mean())


def test_the_saved_adapter_is_the_edit_and_stops_at_the_limit(tmp_path):
    vlm = tiny.llava()
    before, original = weights_hash(vlm.model), forget_ce(vlm)
    result = go(vlm, tmp_path)
    assert result.stopped == "finished"
    assert result.steps == 3
    rows = metrics(tmp_path)
    assert rows[-1]["forget_ce"] < rows[0]["forget_ce"], "first it learns to say harm"
    assert probe_kl(result.vlm) == pytest.approx(result.edit["probe_kl"], rel=1e-3)
    assert 0.015 < result.edit["probe_kl"] <= 0.02
    assert 0 < result.edit["kept"] <= 1
    assert forget_ce(result.vlm) > original + 0.01, "and then to unsay it"
    saved = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert {tensor.shape[0] for name, tensor in saved.items() if "lora_A" in name} == {8}
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    assert (config["r"], config["lora_alpha"]) == (8, 8.0)
    assert weights_hash(detach(result.vlm).model) == before
    loaded = load_adapter(tiny.llava(), tmp_path / "adapter")
    assert probe_kl(loaded) == pytest.approx(result.edit["probe_kl"], rel=1e-3)


def test_a_larger_rank_keeps_more_and_more_damping_changes_the_edit(tmp_path):
    small = go(tiny.llava(), tmp_path / "small")
    whole = go(tiny.llava(), tmp_path / "whole", method=build_method("rep-select", {"components": 0.1, "rank": 99}))
    assert small.edit["kept"] < whole.edit["kept"]
    assert whole.edit["kept"] == pytest.approx(1.0)
    saved = load_file(tmp_path / "whole/adapter/adapter_model.safetensors")
    assert {tensor.shape[0] for name, tensor in saved.items() if "lora_A" in name} == {32}, (
        "no rank is larger than the weights'"
    )


@pytest.mark.parametrize("at", [1, 3, "edit", "adapter"])
def test_interrupted_anywhere_the_edit_is_the_same(tmp_path, one_thread, monkeypatch, at):
    go(tiny.llava(), tmp_path / "whole")
    if isinstance(at, int):
        interrupted(tiny.llava(), tmp_path / "cut", at, SETTINGS, method=METHOD, probe_examples=tiny.probe())
    else:
        name = {"edit": "weight_edit.largest_scale", "adapter": "session.save_adapter"}[at]

        def stop(*_arguments):
            raise StopError

        monkeypatch.setattr(f"unsay.training.{name}", stop)
        vlm = tiny.llava()
        before = weights_hash(vlm.model)
        with pytest.raises(StopError):
            go(vlm, tmp_path / "cut")
        assert weights_hash(vlm.model) == before, "the model is the original again"
        monkeypatch.undo()
    finished = go(tiny.llava(), tmp_path / "cut")
    assert adapter_hash(tmp_path / "cut") == adapter_hash(tmp_path / "whole")
    assert metrics(tmp_path / "cut") == metrics(tmp_path / "whole")
    assert finished.edit["scale"] > 0


def test_it_composes_with_sharpness_an_adversary_and_mlps_alone(tmp_path):
    settings = SETTINGS.model_copy(update={
        "sharpness": 0.1,
        "adversarial": AdversarialSettings(steps=1),
        "lora": LoraSettings(modules="mlp"),
    })  # fmt: skip
    result = go(tiny.llava(), tmp_path, settings)
    names = load_file(tmp_path / "adapter" / "adapter_model.safetensors")
    assert names
    assert all(".mlp." in name for name in names)
    assert result.edit["probe_kl"] <= 0.02


def test_without_held_out_normal_answers_nothing_says_where_to_stop(tiny_vlm):
    with pytest.raises(UserError, match="at least 10 retain examples"):
        plan_training(METHOD, SETTINGS, tiny.examples(), vlm=tiny_vlm)
    with pytest.raises(UserError, match="cannot be edited: launch with ddp"):
        plan_training(METHOD, SETTINGS, tiny.examples(), tiny.probe(), vlm=tiny_vlm, sharded=True)


@pytest.mark.parametrize("wrong", [{"components": 0.0}, {"components": 1.0}, {"max_kl": 0}, {"rank": 0}])
def test_bad_settings_are_refused(wrong):
    with pytest.raises((UserError, ValidationError)):
        build_method("rep-select", wrong)
