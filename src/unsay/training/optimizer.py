"""The adapter's optimiser, its learning-rate schedule over the budget, and scaling of the adapter."""

import math
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec

import torch
from torch import nn
from torch.optim import AdamW, Optimizer

from unsay.errors import UserError
from unsay.processes import Processes
from unsay.training.settings import TrainSettings


def make_optimizer(parameters: Iterable[nn.Parameter], settings: TrainSettings, device: torch.device) -> Optimizer:
    """The optimiser that the settings name; the trainer sets its learning rate in every step.

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


def average_gradients(parameters: Iterable[nn.Parameter], processes: Processes) -> None:
    """Replace each gradient by its mean over all processes; a parameter without one in any of them keeps none."""
    if processes.world == 1:
        return
    listed = list(parameters)
    counts = processes.sum([float(parameter.grad is not None) for parameter in listed])
    trained = [parameter for parameter, count in zip(listed, counts, strict=True) if count]
    for parameter in trained:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    processes.average([parameter.grad for parameter in trained if parameter.grad is not None])


class Schedule:
    """Progress on the budget, and the learning rate that follows from it.

    A run may be limited in steps, tokens and seconds at once. Its schedule runs over whichever limit is nearest, so
    that a rate that falls to zero reaches it when the run ends.

    Attributes:
        warm_end: progress when warm-up ended; None while it lasts. The rate falls from there on, so it is part of a
            checkpoint.
    """

    def __init__(self, settings: TrainSettings) -> None:
        self.settings = settings
        self.warm_end: float | None = None

    def progress(self, step: int, tokens: int, seconds: float) -> float:
        """The largest share of a limit that is used, 0 to 1."""
        used = [step / self.settings.steps]
        if self.settings.max_tokens is not None:
            used.append(tokens / self.settings.max_tokens)
        if self.settings.max_seconds is not None:
            used.append(seconds / self.settings.max_seconds)
        return min(1.0, max(used))

    def factor(self, step: int, progress: float) -> float:
        """The factor on the learning rate of the step after `step` steps, 0 to 1.

        Warm-up counts steps, because the optimiser's moments need them; the fall is spread over the rest of the budget.
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

    def spent(self, step: int, tokens: int, seconds: float, next_tokens: int, probe_seconds: float) -> bool:
        """Whether one more step would exceed a limit.

        Tokens are counted beforehand, so that this limit is exact and the same in every run. Seconds are predicted: the
        next step is taken to last as long as the average step so far.
        """
        limits = self.settings
        if step >= limits.steps or (limits.max_tokens is not None and tokens + next_tokens > limits.max_tokens):
            return True
        if limits.max_seconds is None or step == 0:
            return False
        return seconds + seconds / step + probe_seconds > limits.max_seconds


@torch.no_grad()
def scale_adapter(parameters: Mapping[str, nn.Parameter], factor: float) -> None:
    """Multiply the adapter's update B·A in place, by multiplying B; −1 takes away what was learned."""
    if factor != 1.0:
        for name, parameter in parameters.items():
            if "lora_B" in name:
                parameter.mul_(factor)


@contextmanager
def scaled_adapter(parameters: Mapping[str, nn.Parameter], factor: float) -> Iterator[None]:
    """Within this context the adapter is multiplied; afterwards it is what it was, bit for bit."""
    before = {name: p.detach().clone() for name, p in parameters.items() if "lora_B" in name} if factor != 1.0 else {}
    scale_adapter(parameters, factor)
    try:
        yield
    finally:
        with torch.no_grad():
            for name, value in before.items():
                parameters[name].copy_(value)
