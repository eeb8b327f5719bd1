"""A linear with a plain LoRA update, as one operation: what PEFT does in eight, without their intermediate tensors.

    y = W x + c + s · B A x        ∂y/∂x = W + s · B A

The thin products are added onto the wide one where it stands, forward and backward. PEFT multiplies by s, adds, and
adds the two gradients of x in tensors of their own, which on a CPU takes as long as the thin products themselves.
The result is PEFT's up to the order of rounding; whatever is not plain goes PEFT's way.
"""

from typing import Any

import torch
from peft.tuners.lora import Linear
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.functional import linear

WIDE = (torch.float32, torch.bfloat16)
"""Precisions that hold any gradient's size; in float16 small ones would become 0."""


def quicken(model: nn.Module) -> None:
    """Let every plain LoRA linear of a model compute in one operation, in place; names and weights stay as they are."""
    for module in model.modules():
        if type(module) is Linear and type(module.base_layer) is nn.Linear and not _hooked(module.base_layer):
            module.__class__ = QuickLinear


class QuickLinear(Linear):  # type: ignore[misc]
    """PEFT's LoRA linear with a forward of its own for the plain case: one adapter, no dropout."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """As PEFT's."""
        names = self.active_adapters
        if self.disable_adapters or self.merged or args or kwargs or len(names) != 1:
            return self._pefts(x, *args, **kwargs)
        name, weight = names[0], self.base_layer.weight
        if name not in self.lora_A or name in self.lora_variant or type(self.lora_dropout[name]) is not nn.Identity:
            return self._pefts(x)
        a, b = self.lora_A[name], self.lora_B[name]
        precise = x.dtype == weight.dtype and x.dtype in WIDE
        if b.bias is not None or not precise or torch.is_autocast_enabled(x.device.type):
            return self._pefts(x)
        rows = x.reshape(-1, x.shape[-1])
        out: Tensor = _Updated.apply(rows, weight, self.base_layer.bias, a.weight, b.weight, self.scaling[name])  # type: ignore[no-untyped-call]
        # Shaped out here: to a view from in there nobody may add in place, as Llama 4 does to its experts'.
        return out.view(*x.shape[:-1], -1)

    def _pefts(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        out: Tensor = super().forward(x, *args, **kwargs)
        return out


class _Updated(torch.autograd.Function):
    """(x [n, in], frozen W [out, in], frozen c [out] or None, A [r, in], B [out, r], s) → [n, out]."""

    @staticmethod
    def forward(context: Any, x: Tensor, w: Tensor, c: Tensor | None, a: Tensor, b: Tensor, s: float) -> Tensor:
        """W x + c + s · B A x."""
        out = linear(x, w, c)
        context.exact = a.dtype
        a, b = a.to(x.dtype), b.to(x.dtype)  # one rounding of a few numbers; PEFT widens all of x instead
        thin = x @ a.t()
        out.addmm_(thin, b.t(), alpha=s)
        context.save_for_backward(x, w, a, b, thin)
        context.s = s
        return out

    @staticmethod
    @once_differentiable
    def backward(context: Any, to_out: Tensor) -> tuple[Tensor | None, ...]:
        """The gradients that are asked for; W and c are frozen."""
        x, w, a, b, thin = context.saved_tensors
        to_thin = (to_out @ b).mul_(context.s)
        to_x = None
        if context.needs_input_grad[0]:
            to_x = (to_out @ w).addmm_(to_thin, a)
        to_a = (to_thin.t() @ x).to(context.exact) if context.needs_input_grad[3] else None
        to_b = (to_out.t() @ thin).mul_(context.s).to(context.exact) if context.needs_input_grad[4] else None
        return to_x, None, None, to_a, to_b, None


def _hooked(module: nn.Module) -> bool:
    """Whether somebody waits for this module to be called, as accelerate does where weights are spread."""
    return bool("forward" in vars(module) or module._forward_hooks or module._forward_pre_hooks)
