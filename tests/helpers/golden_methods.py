"""The loss of every packaged method and its gradient on fixed tensors; see `helpers.golden`."""

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor

from helpers.golden import Output
from unsay.methods import METHODS, Needs, Part, RoleBatch, RoleView, build_method

ROWS, TOKENS, WIDTH, DEPTH = 3, 4, 8, 4
MASK = torch.arange(TOKENS) < torch.tensor([[2], [4], [3]])
SCALE = 100
"""Gradients are rounded to three digits after they are multiplied by this."""


def numbers(start: float, *shape: int) -> Tensor:
    """Tensors without a random generator: the same in every version of torch."""
    return torch.tensor([math.sin(start + 0.7 * n) for n in range(math.prod(shape))], dtype=torch.float64).view(shape)


def view(needs: Needs, part: Part) -> RoleView:
    """What the method sees of one part."""
    start = 10.0 * needs.parts.index(part)
    blocks = len(needs.block_places(part, DEPTH))
    tokens, states = (ROWS, TOKENS), (ROWS, TOKENS, blocks, WIDTH)
    return RoleView(
        policy=(numbers(start, *tokens) - 2).requires_grad_(),
        mask=MASK,
        reference=numbers(start + 1, *tokens) - 2 if part in needs.reference else None,
        kl=(numbers(start + 2, *tokens) + 1).requires_grad_() if part in needs.kl else None,
        hidden=numbers(start + 3, *states).requires_grad_() if blocks else None,
        reference_hidden=numbers(start + 4, *states) if part in needs.reference_hidden else None,
    )


def variants(name: str) -> list[dict[str, Any]]:
    """The default settings, and every term switched on and bounded."""
    fields = METHODS[name].settings.model_fields
    switched_off = {field: 0.5 for field, info in fields.items() if info.default == 0.0 and info.annotation is float}
    unbounded = {field: 2.0 for field, info in fields.items() if info.default is None}
    return [{}, switched_off | unbounded]


def losses(name: str) -> tuple[int, list[Any]]:
    """A method's version, and its loss terms and gradients under each variant of its settings."""
    version = METHODS[name].version
    assert version is not None
    outputs = []
    for settings in variants(name):
        method = build_method(name, settings)
        views = {part: view(method.needs, part) for part in method.needs.parts}
        terms = method.loss(RoleBatch(views, progress=0.25))
        terms.total.backward()
        leaves = {
            f"{part} {kind}": getattr(one, kind) for part, one in views.items() for kind in ("policy", "kl", "hidden")
        }
        gradients = {key: leaf.grad for key, leaf in leaves.items() if leaf is not None and leaf.grad is not None}
        outputs.append({
            "needs": [str(part) for part in method.needs.parts] + [method.needs.adapter_factor],
            "terms": {key: float(term.detach()) for key, term in terms.terms.items()},
            "gradients": {key: (SCALE * gradient).flatten().tolist() for key, gradient in gradients.items()},
        })  # fmt: skip
    return version, outputs


OUTPUTS: dict[str, Output] = {
    name: partial(losses, name) for name, entry in METHODS.items() if entry.version is not None
}
