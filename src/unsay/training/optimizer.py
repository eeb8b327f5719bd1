"""The optimiser of the adapter."""

from collections.abc import Iterable
from importlib import import_module
from importlib.util import find_spec

import torch
from torch import nn
from torch.optim import AdamW, Optimizer

from unsay.errors import UserError
from unsay.training.settings import TrainSettings


def make_optimizer(parameters: Iterable[nn.Parameter], settings: TrainSettings, device: torch.device) -> Optimizer:
    """The optimiser that the settings name; its rate is set anew in every step.

    Raises:
        UserError: 8 bits without a CUDA GPU, or without bitsandbytes.
    """
    kind: type[Optimizer] = AdamW
    if settings.optimizer == "adamw-8bit":
        if device.type != "cuda":
            raise UserError(f"train.optimizer: adamw-8bit needs a CUDA GPU, and the model is on {device}: use adamw")
        if find_spec("bitsandbytes") is None:
            raise UserError("train.optimizer: adamw-8bit needs bitsandbytes: pip install 'unsay[qlora]'")
        kind = import_module("bitsandbytes").optim.AdamW8bit
    return kind(parameters, lr=settings.learning_rate, weight_decay=settings.weight_decay)  # type: ignore[call-arg]
