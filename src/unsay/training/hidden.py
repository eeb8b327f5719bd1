"""Hidden states of chosen blocks, and activations recomputed in the backward pass.

Hidden states of chosen blocks: which they are in a given model, and how they are kept during a forward pass.

Activations computed again in the backward pass: about a third more work, and far less memory.

transformers' own switch (`gradient_checkpointing_enable`) works only in training mode. Here models are trained in
evaluation mode, without dropout, so that switch would do nothing and say nothing.
"""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial
from typing import Any

from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from unsay.errors import UserError
from unsay.methods.base import Needs, Part, block_numbers
from unsay.models.lora import LoraSettings, language_linears
from unsay.models.packing import attending_again
from unsay.models.vlm import VLM


def blocks_read(vlm: VLM, needs: Needs) -> list[int]:
    """The numbers of all blocks that some part needs, lowest first; none where no part needs hidden states.

    Raises:
        UserError: the model has no such block.
    """
    depth = len(vlm.layers) if needs.hidden else 0
    return sorted({number for blocks in needs.hidden.values() for number in block_numbers(blocks, depth)})


def places_of(vlm: VLM, needs: Needs, part: Part) -> list[int]:
    """Where the blocks that a part asked for stand in `blocks_read`, in the order in which it asked."""
    numbers = blocks_read(vlm, needs)
    return [numbers.index(number) for number in block_numbers(needs.hidden[part], len(vlm.layers))]


def check_blocks(vlm: VLM, needs: Needs, lora: LoraSettings) -> None:
    """Assert that every named block exists, and that an adapter with these settings can change its output.

    Raises:
        UserError: a block that does not exist, or that lies below the lowest adapted one.
    """
    if not needs.hidden:
        return
    depth = len(vlm.layers)
    named = {n for blocks in needs.hidden.values() if blocks != "all" for n in block_numbers(blocks, depth)}
    names = set(language_linears(vlm, lora))
    adapted = {id(module) for name, module in vlm.base.named_modules() if name in names}
    lowest = next(number for number, layer in enumerate(vlm.layers) if any(id(m) in adapted for m in layer.modules()))
    if named and min(named) < lowest:
        raise UserError(
            f"method_settings: block {min(named)} lies below the lowest adapted one, {lowest}, so training could "
            "not change its output: name a higher block, or adapt more with train.lora.layers"
        )


@contextmanager
def keeping_each(vlm: VLM, numbers: Sequence[int]) -> Iterator[list[list[Tensor]]]:
    """Keep what the blocks of these numbers put out: a list for each of them, with one item per pass of the decoder.

    A block that a pass leaves out, as Mllama's cross-attention where there is no picture, hands on what it was given:
    what the block below put out is kept for it.
    """
    kept: list[list[Tensor]] = [[] for _ in numbers]
    latest: dict[int, Tensor] = {}

    def keep(layer: int) -> Any:
        above = [number for number in numbers if layer <= number]

        def hook(_module: nn.Module, _inputs: Any, output: Any) -> None:
            put_out: Tensor = output[0] if isinstance(output, tuple) else output
            latest.update(dict.fromkeys(above, put_out))

        return hook

    def finish(_module: nn.Module, _inputs: Any, _output: Any) -> None:
        for place, number in enumerate(numbers):
            kept[place].append(latest[number])
        latest.clear()

    layers = vlm.layers[: max(numbers) + 1] if numbers else []
    handles = [layer.register_forward_hook(keep(number)) for number, layer in enumerate(layers)]
    handles += [vlm.decoder.register_forward_hook(finish)] if numbers else []
    try:
        yield kept
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def recomputing(vlm: VLM, wanted: bool) -> Iterator[None]:
    """While this holds, the layers that the backward pass reaches keep nothing but what goes into them.

    Non-reentrant, so gradients reach the adapters though nothing that enters the lowest layer has any.

    Args:
        vlm: the model with its adapter.
        wanted: whether to do so.
    """
    layers = vlm.layers[vlm.shared_layers :] if wanted else []
    uniform, hooked = vlm.uniform, [vars(layer).get("forward") for layer in layers]  # a device map puts hooks there
    for layer in layers:
        # Nothing in here draws random numbers, so there is no state of theirs to keep.
        layer.forward = partial(
            checkpoint, layer.forward, use_reentrant=False, preserve_rng_state=False, context_fn=_then_as_now
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


def _then_as_now() -> tuple[AbstractContextManager[None], AbstractContextManager[None]]:
    """What surrounds the first pass, and the second: packed rows have an attention of their own."""
    return nullcontext(), attending_again()
