"""What only pictures need, out of the accelerator's memory while text alone is trained on."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from unsay.models.vlm import VLM

HOST = torch.device("cpu")


def seeing_parts(vlm: VLM) -> list[nn.Module]:
    """The largest parts of the model that a text does not pass: all beside its language model and output head.

    Found by identity, not by name. A tower that stands inside the language model, as Phi-4-multimodal's, stays there.
    """
    read = {id(module) for part in (vlm.decoder, vlm.lm_head) for module in part.modules()}

    def outside(module: nn.Module) -> Iterator[nn.Module]:
        for child in module.children():
            if id(child) in read:
                continue
            if any(id(inner) in read for inner in child.modules()):
                yield from outside(child)
            else:
                yield child

    return list(outside(vlm.base))


@contextmanager
def blind(vlm: VLM, wanted: bool) -> Iterator[None]:
    """While this holds, what only pictures need is in the host's memory; afterwards it is where it was.

    Args:
        vlm: the model; one that is spread over devices or quantised is left as it is, for its parts cannot be moved.
        wanted: whether to do anything.
    """
    home = vlm.device
    parts = seeing_parts(vlm) if wanted and _movable(vlm) else []
    for part in parts:
        part.to(HOST)
    try:
        yield
    finally:
        for part in parts:
            part.to(home)


def _movable(vlm: VLM) -> bool:
    spread = getattr(vlm.base, "hf_device_map", None) is not None or getattr(vlm.base, "is_quantized", False)
    return vlm.device != HOST and not spread
