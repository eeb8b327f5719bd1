"""LoRA linears in one operation against PEFT's own, in value and gradient; and what must go PEFT's way."""

import copy

import pytest
import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import Linear
from torch import nn

from unsay.models import LoraSettings, attach
from unsay.models.lora import FusedLoraLinear, fuse_lora


def adapted(bias=True, **more):
    """A linear of 12 → 20 behind another one, with an adapter that does something."""
    torch.manual_seed(0)
    body = nn.Sequential(nn.Linear(12, 12), nn.Linear(12, 20, bias=bias)).requires_grad_(False)
    model = get_peft_model(body, LoraConfig(r=4, lora_alpha=10, target_modules=["1"], **more))
    layer = body[1]
    nn.init.normal_(layer.lora_B["default"].weight)
    return model, layer


def results(layer, kind, x):
    """Value and gradients by x, A and B, of a loss that is no mere sum."""
    layer.__class__ = kind
    x = x.clone().requires_grad_()
    parameters = [p for p in layer.parameters() if p.requires_grad]
    value = layer(x)
    return value, *torch.autograd.grad((value * value.detach().sin()).sum(), [x, *parameters])


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(5, 12), (2, 3, 12)])
def test_value_and_gradients_are_pefts(shape, bias):
    _, layer = adapted(bias)
    x = torch.randn(shape)
    for quick, plain in zip(results(layer, FusedLoraLinear, x), results(layer, Linear, x), strict=True):
        torch.testing.assert_close(quick, plain, rtol=1e-5, atol=1e-5)


def test_in_half_precision_it_is_at_most_twice_as_far_from_the_exact_result_as_pefts_own():
    _, layer = adapted()
    layer.base_layer.bfloat16()
    x = torch.randn(400, 12).bfloat16()
    pefts, quick = results(layer, Linear, x), results(layer, FusedLoraLinear, x)
    exact = results(copy.deepcopy(layer).double(), Linear, x.double())
    assert [value.dtype for value in quick] == [torch.bfloat16, torch.bfloat16, torch.float32, torch.float32]
    for ours, theirs, true in zip(quick, pefts, exact, strict=True):
        assert (ours - true).norm() < 0.05 * true.norm()
        assert (ours - true).norm() < 2 * (theirs - true).norm()


def test_nothing_is_computed_for_an_input_without_gradient():
    _, layer = adapted()
    layer.__class__ = FusedLoraLinear
    x = torch.randn(3, 12)
    layer(x).sum().backward()
    assert x.grad is None
    assert layer.lora_A["default"].weight.grad.abs().max() > 0


def test_switched_off_it_is_the_original_bit_for_bit():
    model, layer = adapted()
    x = torch.randn(3, 12)
    layer.__class__ = FusedLoraLinear
    with model.disable_adapter():
        assert torch.equal(layer(x), layer.base_layer(x))
    assert (layer(x) - layer.base_layer(x)).abs().max() > 0.01


def test_every_adapted_linear_of_a_model_is_quick_and_so_are_its_copies(any_vlm):
    model = attach(any_vlm, LoraSettings(), 0).model
    found = [module for module in model.modules() if isinstance(module, Linear)]
    assert found
    assert all(type(module) is FusedLoraLinear for module in found)
    other = copy.deepcopy(found[0])
    nn.init.normal_(other.lora_B["default"].weight)
    x = torch.randn(2, other.in_features)
    assert not torch.equal(other(x), found[0](x))


def dropped(model, layer):
    layer.lora_dropout["default"] = nn.Dropout(0.5)


def merged(model, layer):
    model.merge_adapter()


def second(model, layer):
    model.add_adapter("other", LoraConfig(r=2, target_modules=["1"]))
    nn.init.normal_(layer.lora_B["other"].weight)
    model.base_model.set_adapter(["default", "other"])


def narrow(model, layer):
    layer.base_layer.half()


@pytest.mark.parametrize("change", [dropped, merged, second, narrow])
def test_what_is_not_plain_goes_pefts_way(change):
    model, layer = adapted()
    change(model, layer)
    x = torch.randn(3, 12, dtype=layer.base_layer.weight.dtype)
    torch.manual_seed(1)
    layer.__class__ = Linear
    wanted = layer(x)
    torch.manual_seed(1)
    layer.__class__ = FusedLoraLinear
    assert torch.equal(layer(x), wanted)


def test_a_linear_that_somebody_waits_for_stays_pefts():
    model, layer = adapted()
    layer.base_layer.register_forward_hook(lambda _m, _i, out: out)
    fuse_lora(model)
    assert type(layer) is Linear


def test_an_adapter_acts_with_alpha_over_rank(tiny_vlm):
    model = attach(tiny_vlm, LoraSettings(rank=4, alpha=8), seed=0).model
    assert {layer.scaling["default"] for layer in model.modules() if isinstance(layer, Linear)} == {2.0}
