"""Attention by plain products against torch's own, in value and gradient, and where each is used."""

import pytest
import torch
from torch.nn.functional import scaled_dot_product_attention

from unsay.models import packing
from unsay.models.packing import ShortAttention, masked_attention


def results(attend, dtype, before=3):
    """Value and gradients by q, k and v, in this precision, of a loss that is no mere sum."""
    torch.manual_seed(0)
    q, k, v = torch.randn(2, 3, 5, 8), torch.randn(2, 3, 5 + before, 8), torch.randn(2, 3, 5 + before, 8)
    q, k, v = (x.bfloat16().to(dtype).requires_grad_() for x in (q, k, v))
    mask = torch.full((5, 5 + before), -torch.inf, dtype=dtype).triu(before + 1)
    out = attend(q, k, v, mask)
    return out, *torch.autograd.grad((out * out.detach().sin()).sum(), [q, k, v])


def short(q, k, v, mask):
    return ShortAttention.apply(q, k, v, mask, 8**-0.5)


def torchs(q, k, v, mask):
    return scaled_dot_product_attention(q, k, v, attn_mask=mask)


@pytest.mark.parametrize("before", [0, 3])
def test_value_and_gradients_are_torchs(before):
    for ours, theirs in zip(results(short, torch.float64, before), results(torchs, torch.float64, before), strict=True):
        torch.testing.assert_close(ours, theirs)


def test_in_half_precision_it_is_at_most_twice_as_far_from_the_exact_result_as_torchs():
    exact = results(torchs, torch.float64)
    for ours, theirs, true in zip(
        results(masked_attention, torch.bfloat16), results(torchs, torch.bfloat16), exact, strict=True
    ):
        assert ours.dtype is torch.bfloat16
        assert (ours - true).norm() < 0.02 * true.norm()
        assert (ours - true).norm() < 2 * (theirs - true).norm()


@pytest.mark.parametrize(("dtype", "longest"), [(torch.float32, 512), (torch.bfloat16, 7)])
def test_other_precisions_and_long_rows_are_left_to_torch(monkeypatch, dtype, longest):
    monkeypatch.setattr(packing, "SHORT", longest)
    for ours, theirs in zip(results(masked_attention, dtype), results(torchs, dtype), strict=True):
        assert torch.equal(ours, theirs)
