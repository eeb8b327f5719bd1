"""Layers below the lowest adapted one compute the same with the adapter on and off: once is enough."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from unsay.models.checks import PROMPT
from unsay.models.vlm import VLM


@contextmanager
def keeping(layers: list[nn.Module]) -> Iterator[list[Any]]:
    """Keep what the last of `layers` puts out: one item per forward pass, none where there are no layers."""
    kept: list[Any] = []
    handles = [layer.register_forward_hook(lambda *call: kept.append(call[-1])) for layer in layers[-1:]]
    try:
        yield kept
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def starting_after(layers: list[nn.Module], output: Tensor | None) -> Iterator[None]:
    """While this holds, `layers` are not run: the last of them puts out `output`.

    The decoder's own forward still makes masks, positions and the final norm, so nothing here depends on the family.

    Args:
        layers: the decoder's lowest layers, from the bottom up; with none, all layers are run as ever.
        output: hidden states that the last of them would give, [B, L, H].
    """
    for layer in layers:
        layer.forward = _put_out(output)
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward  # the class's own forward shows again


def _put_out(output: Tensor | None) -> Callable[..., Tensor | None]:
    return lambda *_args, **_kwargs: output


@torch.no_grad()
def shared_layers(vlm: VLM) -> int:
    """How many of the lowest layers can be shared: those below the lowest adapter, if sharing them is exact.

    It is tried on a short prompt. A family whose layers hand on more than hidden states fails the trial, and nothing
    is shared.
    """
    layers = vlm.layers
    adapted = [any("lora_" in name for name, _ in layer.named_parameters()) for layer in layers]
    count = adapted.index(True) if True in adapted else 0
    lowest = layers[:count]
    if not lowest or any("forward" in vars(layer) for layer in lowest):  # somebody else has put a forward there
        return 0
    ids = torch.tensor([vlm.encode_prompt(PROMPT)], device=vlm.device)

    def states() -> Tensor:
        hidden: Tensor = vlm.decoder(input_ids=ids, use_cache=False).last_hidden_state
        return hidden

    with keeping(lowest) as kept:
        whole = states()
    if not kept or not isinstance(kept[0], Tensor):  # nothing kept: a layer that text does not pass
        return 0
    try:
        with starting_after(lowest, kept[0]):
            shared = states()
    except (AttributeError, KeyError, IndexError, TypeError, ValueError, RuntimeError):
        return 0
    return count if torch.allclose(shared, whole, rtol=1e-5, atol=1e-6) else 0
