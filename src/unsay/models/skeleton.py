"""A model's modules without their weights: enough to see what is where."""

from typing import Any

import torch
import transformers
from torch import nn

from unsay.models.vlm import VLM


def skeleton(name: str, config: Any, auto_class: str) -> VLM:
    """A model of this configuration on the meta device, frozen, without a processor.

    Args:
        name: what the user called it.
        config: a transformers configuration.
        auto_class: of transformers, by name.
    """
    auto: Any = getattr(transformers, auto_class)
    with torch.device("meta"):
        model = auto.from_config(config, dtype=torch.float32, trust_remote_code=False).requires_grad_(False)
    return VLM(name, model, None, "planned")


def left_whole(vlm: VLM) -> list[str]:
    """Names of the linears that quantisation leaves alone: towers, projector and head, all but the language layers'."""
    inside = {id(module) for layer in vlm.text_layers for module in layer.modules()}
    return [
        name for name, module in vlm.base.named_modules() if isinstance(module, nn.Linear) and id(module) not in inside
    ]
