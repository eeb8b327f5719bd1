"""The language model's weights, changed for a while."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import nn

from unsay.models import VLM, LoraSettings
from unsay.models.lora import language_linears


@contextmanager
def changing(vlm: VLM) -> Iterator[dict[str, nn.Linear]]:
    """The language model's linears by name, to be changed in place; afterwards their weights are what they were."""
    linears: dict[str, nn.Linear] = {
        name: vlm.base.get_submodule(name) for name in language_linears(vlm, LoraSettings())
    }
    kept = {name: linear.weight.detach().clone() for name, linear in linears.items()}
    try:
        yield linears
    finally:
        with torch.no_grad():
            for name, linear in linears.items():
                linear.weight.copy_(kept[name])
