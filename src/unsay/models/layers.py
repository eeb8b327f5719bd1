"""A decoder's layers during a forward pass: their outputs recorded, the lowest skipped, activations recomputed."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from unsay.models.checks import PROMPT
from unsay.models.packing import repeating_attention
from unsay.models.vlm import VLM


@contextmanager
def recording_output(layers: list[nn.Module]) -> Iterator[list[Any]]:
    """Record the output of the last of `layers`: one item per forward pass, none where there are no layers."""
    outputs: list[Any] = []
    handles = [layer.register_forward_hook(lambda *call: outputs.append(call[-1])) for layer in layers[-1:]]
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def recording_blocks(vlm: VLM, numbers: Sequence[int]) -> Iterator[list[list[Tensor]]]:
    """Record the outputs of the blocks of these numbers: a list per block, with one item per pass of the decoder.

    A block that a pass leaves out, as Mllama's cross-attention without a picture, hands on its input: the output of the
    block below is recorded for it.
    """
    outputs: list[list[Tensor]] = [[] for _ in numbers]
    latest: dict[int, Tensor] = {}

    def record(layer: int) -> Any:
        above = [number for number in numbers if layer <= number]

        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            states: Tensor = output[0] if isinstance(output, tuple) else output
            latest.update(dict.fromkeys(above, states))

        return hook

    def finish(_module: nn.Module, _inputs: Any, _output: Any) -> None:
        for place, number in enumerate(numbers):
            outputs[place].append(latest[number])
        latest.clear()

    layers = vlm.layers[: max(numbers) + 1] if numbers else []
    handles = [layer.register_forward_hook(record(number)) for number, layer in enumerate(layers)]
    handles += [vlm.decoder.register_forward_hook(finish)] if numbers else []
    try:
        yield outputs
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def adding(
    vlm: VLM, added: Mapping[int, Tensor], index: tuple[Tensor, ...], note: Callable[[int, Tensor], object]
) -> Iterator[None]:
    """Within this context the outputs of some blocks have something added to them at N places.

    Args:
        vlm: the model.
        added: numbers of blocks → what is added to the output of each, [N, H].
        index: the places, as an index of a block's output without its last dimension; [N] each.
        note: is told the number of each block that runs and how long its states there are before, [N].
    """

    def hook_for(number: int, more: Tensor) -> Any:
        def hook(_module: nn.Module, _inputs: Any, output: Any) -> Any:
            states: Tensor = output[0] if isinstance(output, tuple) else output
            here = tuple(part.to(states.device) for part in index)
            note(number, states[here].detach().float().norm(dim=-1))
            changed = states.index_put(here, more.to(states), accumulate=True)
            return (changed, *output[1:]) if isinstance(output, tuple) else changed

        return hook

    layers = vlm.layers if added else []
    handles = [layers[number].register_forward_hook(hook_for(number, more)) for number, more in added.items()]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def skipping(layers: list[nn.Module], output: Tensor | None) -> Iterator[None]:
    """Within this context `layers` are not run: each returns `output`.

    The decoder's own forward still makes masks, positions and the final norm, so nothing here depends on the family.

    Args:
        layers: the decoder's lowest layers, from the bottom up; with none, all layers are run.
        output: hidden states that the last of them would give, [B, L, H].
    """
    for layer in layers:
        layer.forward = lambda *_args, **_kwargs: output
    try:
        yield
    finally:
        for layer in layers:
            del layer.forward  # the class's own forward shows again


@torch.no_grad()
def shared_layers(vlm: VLM) -> int:
    """How many of the lowest layers give the same output with the adapter on and off: those below the lowest adapter.

    Tried on a short prompt: 0 for a family whose layers hand on more than hidden states.
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

    with recording_output(lowest) as outputs:
        whole = states()
    if not outputs or not isinstance(outputs[0], Tensor):  # none: a layer that text does not pass
        return 0
    try:
        with skipping(lowest, outputs[0]):
            shared = states()
    except (AttributeError, KeyError, IndexError, TypeError, ValueError, RuntimeError):
        return 0
    return count if torch.allclose(shared, whole, rtol=1e-5, atol=1e-6) else 0


@contextmanager
def recomputing(vlm: VLM, wanted: bool) -> Iterator[None]:
    """Within this context, the layers that the backward pass reaches keep nothing but their inputs.

    About a third more work, and far less memory. transformers' own switch (`gradient_checkpointing_enable`) works only
    in training mode; here models are trained in evaluation mode, without dropout. Non-reentrant, so that gradients
    reach the adapters although the lowest layer's input has none.
    """
    layers = vlm.layers[vlm.shared_layers :] if wanted else []
    uniform, hooked = vlm.uniform, [vars(layer).get("forward") for layer in layers]  # a device map puts hooks there
    for layer in layers:
        # No random numbers are drawn here, so there is no generator state to keep.
        layer.forward = partial(
            checkpoint, layer.forward, use_reentrant=False, preserve_rng_state=False, context_fn=_contexts
        )
    # A common prefix hands its keys and values on by filling a cache; filled again, it would hold them twice.
    vlm.uniform = uniform or wanted
    try:
        yield
    finally:
        vlm.uniform = uniform
        for layer, before in zip(layers, hooked, strict=True):
            del layer.forward  # the class's own forward shows again
            if before is not None:
                layer.forward = before


def _contexts() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """Contexts of the first pass and of the second: packed rows have an attention of their own."""
    return nullcontext(), repeating_attention()
