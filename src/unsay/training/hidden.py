"""Hidden states of chosen blocks: which they are in a given model, and how they are kept during a forward pass."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn

from unsay.errors import UserError
from unsay.methods.base import Needs, Part
from unsay.methods.blocks import block_numbers
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


def check_blocks(vlm: VLM, needs: Needs) -> None:
    """Before training: every named block exists, and with an adapter on the model, the adapter can change it.

    Raises:
        UserError: a block that does not exist, or that lies below the lowest adapted one.
    """
    depth = len(vlm.layers) if needs.hidden else 0
    named = {n for blocks in needs.hidden.values() if blocks != "all" for n in block_numbers(blocks, depth)}
    adapted = [number for number, layer in enumerate(vlm.layers) if _has_adapter(layer)] if named else []
    if named and adapted and min(named) < adapted[0]:
        raise UserError(
            f"method_settings: block {min(named)} lies below the lowest adapted one, {adapted[0]}, so training could "
            "not change what it gives: name a higher block, or adapt more with train.lora.layers"
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


def _has_adapter(layer: nn.Module) -> bool:
    return any("lora_" in name for name, _ in layer.named_parameters())
