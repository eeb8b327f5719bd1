"""The adapter's optimiser, its learning rate over the budget, and scaling of the adapter.

The optimiser of the adapter.

How much of its budget a run has used, and the learning rate that follows from it.

A run may be limited in steps, tokens and seconds at once. Its schedule runs over whichever limit is nearest, so that a
rate that falls to zero does so when the run ends, whatever ends it: progress is the largest of the three used shares.

Multiplying an adapter: a LoRA update is B·A times a constant, so it is enough to multiply B.
"""

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
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


class Pace:
    """Progress on the budget, and the factor on the learning rate.

    Attributes:
        warm_end: progress when warm-up ended; None while it lasts. The rate falls from there on, so it is part of a
            checkpoint.
    """

    def __init__(self, settings: TrainSettings) -> None:
        self.settings = settings
        self.warm_end: float | None = None

    def progress(self, step: int, tokens: int, seconds: float) -> float:
        """The largest share of a limit that is used, 0 to 1."""
        shares = [step / self.settings.steps]
        if self.settings.max_tokens is not None:
            shares.append(tokens / self.settings.max_tokens)
        if self.settings.max_seconds is not None:
            shares.append(seconds / self.settings.max_seconds)
        return min(1.0, max(shares))

    def factor(self, step: int, progress: float) -> float:
        """What the learning rate of the step after `step` steps is multiplied by, 0 to 1.

        Warm-up counts steps, for it is the optimiser that needs them; what follows is spread over the rest of the
        budget.
        """
        if step < self.settings.warmup_steps:
            return step / self.settings.warmup_steps
        if self.warm_end is None:
            self.warm_end = progress
        left = 1.0 - self.warm_end
        rest = (1.0 - progress) / left if left > 0 else 0.0
        return {"constant": 1.0, "linear": rest, "cosine": 0.5 + 0.5 * math.cos(math.pi * (1.0 - rest))}[
            self.settings.schedule
        ]

    def spent(self, step: int, tokens: int, seconds: float, next_tokens: int, look: float) -> bool:
        """Whether one more step would go over a limit.

        Tokens are counted beforehand, so that limit is exact and the same in every run. Seconds can only be foretold:
        the next step is taken to last as long as the steps so far did on average.

        Args:
            step: steps done.
            tokens: tokens used.
            seconds: time used.
            next_tokens: tokens of the next step's batch.
            look: seconds that the look at the probe takes with which a run ends.
        """
        limits = self.settings
        if step >= limits.steps or (limits.max_tokens is not None and tokens + next_tokens > limits.max_tokens):
            return True
        if limits.max_seconds is None or step == 0:
            return False
        return seconds + seconds / step + look > limits.max_seconds


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
