"""Multiplying an adapter: a LoRA update is B·A times a constant, so it is enough to multiply B."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import nn


@torch.no_grad()
def multiply(parameters: Mapping[str, nn.Parameter], factor: float) -> None:
    """Multiply the adapter's update in place; the rest of the model is untouched.

    Args:
        parameters: the adapter's parameters by name.
        factor: −1 takes away what was learnt; 1 changes nothing.
    """
    if factor != 1.0:
        for name, parameter in parameters.items():
            if "lora_B" in name:
                parameter.mul_(factor)


@contextmanager
def multiplied(parameters: Mapping[str, nn.Parameter], factor: float) -> Iterator[None]:
    """While this holds, the adapter is multiplied; afterwards it is what it was, bit for bit."""
    before = {name: p.detach().clone() for name, p in parameters.items() if "lora_B" in name} if factor != 1.0 else {}
    multiply(parameters, factor)
    try:
        yield
    finally:
        with torch.no_grad():
            for name, value in before.items():
                parameters[name].copy_(value)
