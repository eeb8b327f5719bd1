"""An edit of the weights along the forget examples' gradient, without its leading components, kept as an adapter.

Its source and its steps stand in `methods.rep_select`.
"""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from unsay.errors import UserError
from unsay.methods.base import Needs, WeightEdit
from unsay.models.lora import LoraSettings, attach, detach
from unsay.models.vlm import VLM
from unsay.records import Role
from unsay.training.encode import Encoded
from unsay.training.flops import step_flops
from unsay.training.head import role_views
from unsay.training.optimizer import scale_adapter
from unsay.training.trainer import Trainer

FORGET = Needs(roles=frozenset({Role.FORGET}))
START = 1e-3
"""The first step that is tried: its length as a share of the weights'."""
DOUBLINGS = 40
HALVINGS = 6
"""Halvings of the bracket in which the step lies, on a logarithmic scale: it is known to 2^(1/64), about 1 %."""


class Edited(NamedTuple):
    """The model with the edit as its adapter, and what it is like: `scale`, `probe_kl` and `kept`."""

    vlm: VLM
    meters: dict[str, float]


def edited(
    trainer: Trainer, edit: WeightEdit, forget: Sequence[Sequence[Encoded]], lora: LoraSettings, seed: int
) -> Edited:
    """Replace the adapter, which has learned the harmful answers, by the edit.

    Every process that trains together does the same. The adapter that was learned stays in the last checkpoint, so a
    killed run begins here again.

    Args:
        trainer: at the end of its steps; its probe says how far the edit goes.
        edit: which and how far.
        forget: each forget example once, in batches.
        lora: which linears are edited.
        seed: of the adapter's first weights, which are written over.

    Raises:
        UserError: too few forget examples, or a model that does not change.
        PreemptedError: SIGTERM arrived.
    """
    began = time.monotonic()
    weights = sum(float(weight.float().norm()) ** 2 for weight in _adapted_weights(trainer.vlm).values()) ** 0.5
    parts = {}
    kept = [0.0, 0.0]
    for name, gradient in weight_gradients(trainer, forget).items():
        u, s, v = damped(gradient, edit.components, name)
        largest = torch.argsort(s, descending=True, stable=True)[: edit.rank]
        kept[0] += float(s[largest].square().sum())
        kept[1] += float(s.square().sum())
        parts[name] = (u[:, largest] * s[largest].sqrt(), s[largest].sqrt()[:, None] * v[:, largest].T)
    rank = max(a.shape[0] for _, a in parts.values())
    uniform = trainer.vlm.uniform
    vlm = attach(detach(trainer.vlm), lora.model_copy(update={"rank": rank, "alpha": float(rank)}), seed)
    vlm.model.eval()
    vlm.uniform = uniform
    try:
        _fill(vlm, parts)
        trainer.look_at(vlm)
        length = kept[0] ** 0.5
        scale, kl = largest_scale(trainer.probed_at, edit.max_kl, START * weights / length)
        scale_adapter(trainer.parameters, scale)
    except BaseException:
        detach(vlm)
        raise
    trainer.add_time(began)
    return Edited(vlm, {"scale": scale, "probe_kl": kl, "kept": kept[0] / kept[1]})


def weight_gradients(trainer: Trainer, forget: Sequence[Sequence[Encoded]]) -> dict[str, Tensor]:
    """∂ Σ CE / ∂W of every adapted linear's frozen W [out, in], the adapter on; in float32, by the linear's name."""
    with _weighing(trainer.vlm) as gradients:
        for examples in forget:
            trainer.end_if_requested(trainer.counters)
            batch = trainer.collated(examples)
            trainer.flops += step_flops(trainer.vlm, batch, FORGET, original=False)
            view = role_views(trainer.vlm, batch, FORGET, trainer.settings.head_chunk)[Role.FORGET]
            view.cross_entropy().sum().backward()  # type: ignore[no-untyped-call]
            for parameter in trainer.parameters.values():
                parameter.grad = None
    return gradients


def damped(gradient: Tensor, components: float, name: str = "") -> tuple[Tensor, Tensor, Tensor]:
    """Singular vectors of a gradient and its damped singular values: s_i → s_q²/s_i for the q leading ones.

    Args:
        gradient: [out, in].
        components: q, as a share of the smaller side.
        name: of the linear, for errors.

    Returns:
        U [out, n], s [n] and V [in, n] of the n components that are not 0, the leading first.
    """
    wide, device = gradient.shape[0] <= gradient.shape[1], gradient.device
    exact = (gradient.cpu() if device.type == "mps" else gradient).double()  # which has no double precision
    tall = exact if wide else exact.T
    values, vectors = torch.linalg.eigh(tall @ tall.T)  # far cheaper than a decomposition of the whole matrix
    values, vectors = values.flip(0).clamp_min(0), vectors.flip(1)
    rank = int((values > values[0] * torch.finfo(torch.float32).eps ** 2 * max(tall.shape)).sum()) if values[0] else 0
    q = max(1, round(components * tall.shape[0]))
    if rank <= q:
        raise UserError(
            f"the gradient of {name or 'a linear'} has {rank:,} components, and the {q:,} leading ones are damped, so "
            "that nothing would be left: add forget examples, or lower method_settings.components"
        )
    s, left = values[:rank].sqrt(), vectors[:, :rank]
    right = tall.T @ left / s
    s = torch.cat([s[q - 1] ** 2 / s[:q], s[q:]])
    u, v = (left, right) if wide else (right, left)
    return u.float().to(device), s.float().to(device), v.float().to(device)


def largest_scale(kl_at: Callable[[float], float], limit: float, start: float) -> tuple[float, float]:
    """The largest scale whose KL is at most the limit, to about 1 %, and that KL.

    Raises:
        UserError: no scale reaches the limit, or none stays below it.
    """
    low, high, kl = 0.0, 0.0, 0.0
    scale = start
    for _ in range(DOUBLINGS):
        here = kl_at(scale)
        if math.isfinite(here) and here <= limit:
            low, kl = scale, here
            scale *= 2
        else:
            high = scale
            scale /= 2
        if low and high:
            break
    else:
        raise UserError(
            f"method_settings.max_kl: {limit}: "
            + ("no edit is large enough to reach it" if low else "no edit is small enough to stay below it")
        )
    for _ in range(HALVINGS):
        middle = (low * high) ** 0.5
        here = kl_at(middle)
        if math.isfinite(here) and here <= limit:
            low, kl = middle, here
        else:
            high = middle
    return low, kl


def _adapted(vlm: VLM) -> dict[str, Any]:
    return {name: module for name, module in vlm.model.named_modules() if hasattr(module, "lora_A")}


def _adapted_weights(vlm: VLM) -> dict[str, Tensor]:
    return {name: module.base_layer.weight for name, module in _adapted(vlm).items()}


@contextmanager
def _weighing(vlm: VLM) -> Iterator[dict[str, Tensor]]:
    """Within this context every backward pass adds to the gradients of the adapted linears' frozen weights.

    For y = W x + … it is ∂L/∂y ᵀ x, summed over positions: no weight has to be trainable, and a packed one may be.
    """
    gradients: dict[str, Tensor] = {}

    def hook_for(name: str) -> Any:
        def hook(_module: nn.Module, inputs: Any, output: Tensor) -> None:
            if not output.requires_grad:  # a trial, as of whether the model takes packed rows
                return
            x = inputs[0].detach().flatten(0, -2).float()

            def add(to_output: Tensor) -> None:
                update = to_output.detach().flatten(0, -2).float().T @ x
                gradients[name] = update if name not in gradients else gradients[name].add_(update)

            output.register_hook(add)  # type: ignore[no-untyped-call]

        return hook

    handles = [module.register_forward_hook(hook_for(name)) for name, module in _adapted(vlm).items()]
    try:
        yield gradients
    finally:
        for handle in handles:
            handle.remove()


@torch.no_grad()
def _fill(vlm: VLM, parts: Mapping[str, tuple[Tensor, Tensor]]) -> None:
    """Write B [out, r] and A [r, in] into the adapter's linears; what a smaller rank leaves of them is 0."""
    for name, module in _adapted(vlm).items():
        a, b = module.lora_A["default"].weight, module.lora_B["default"].weight
        a.zero_()
        b.zero_()
        if name in parts:  # a linear that no forget row passes has no gradient
            left, right = parts[name]
            b[:, : left.shape[1]] = left.to(b)
            a[: right.shape[0]] = right.to(a)
