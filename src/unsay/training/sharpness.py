"""Sharpness-aware steps: the gradient is taken where the loss is highest nearby, so that training ends in a flat place.

    min_θ max_{‖ε‖ ≤ ρ} L(θ + ε),        ε = ρ ∇L(θ) / ‖∇L(θ)‖

(Foret et al. 2021, arXiv 2010.01412, equations 1 and 2; for unlearning Fan et al. 2025, arXiv 2502.05374, with ρ 0.1
for WMDP.) Whoever fine-tunes an unlearned model moves its weights a little; where the loss is flat, that undoes little.

θ are the adapter's weights, all of them together, so that ρ is small beside one step of AdamW. Fan et al. take only the
forget loss at θ + ε. Here it is the whole loss, because a method gives one loss for a mixed batch: what holds normal
answers is to be flat, too.
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager

import torch
from torch import nn


@contextmanager
def uphill(parameters: Iterable[nn.Parameter], radius: float) -> Iterator[None]:
    """Within this context the parameters are moved by `radius` along their gradients; afterwards they are as before.

    The gradients are forgotten on the way in. A parameter without a gradient is not moved, and none is where all are 0.
    """
    moved = [parameter for parameter in parameters if parameter.grad is not None]
    before = [parameter.detach().clone() for parameter in moved]
    with torch.no_grad():
        norms = [parameter.grad.norm() for parameter in moved if parameter.grad is not None]
        norm = torch.stack(norms).norm().clamp_min(torch.finfo(torch.float32).tiny) if norms else None
        for parameter in moved:
            assert parameter.grad is not None  # chosen by that
            assert norm is not None
            parameter.add_(parameter.grad * (radius / norm))
            parameter.grad = None
    try:
        yield
    finally:
        with torch.no_grad():
            for parameter, value in zip(moved, before, strict=True):
                parameter.copy_(value)  # exactly: adding and subtracting would leave rounding
