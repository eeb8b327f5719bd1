"""Activations computed again in the backward pass: about a third more work, and far less memory.

transformers' own switch (`gradient_checkpointing_enable`) works only in training mode. Here models are trained in
evaluation mode, without dropout, so that switch would do nothing and say nothing.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from functools import partial

from torch.utils.checkpoint import checkpoint

from unsay.models.packing import attending_again
from unsay.models.vlm import VLM


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
