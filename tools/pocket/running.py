"""What every building step shares: a learning rate that follows the clock, batches drawn by workers, files."""

from __future__ import annotations

import math
import os
import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from tools.pocket.conversations import autocast
from unsay.errors import UserError
from unsay.files import atomic_path

Arrays = dict[str, NDArray[Any]]


@dataclass
class Budget:
    """How much a step may do: whichever of seconds and steps runs out first ends it.

    Attributes:
        seconds: wall time of training, from `start()` on; loading and measuring come on top.
        steps: optimiser steps.
        warmup: share of the budget over which the learning rate rises.
    """

    seconds: float = math.inf
    steps: float = math.inf
    warmup: float = 0.04
    done: int = 0
    _started: float = field(default_factory=time.monotonic)

    def start(self) -> None:
        """Start the clock."""
        self._started = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds since `start()`."""
        return time.monotonic() - self._started

    @property
    def fraction(self) -> float:
        """How much of the budget is used, 0 to 1."""
        return min(1.0, max(self.elapsed / self.seconds, self.done / self.steps))

    def rate(self) -> float:
        """Factor on the peak learning rate: a linear rise, then a cosine down to 2 % of the peak."""
        used = self.fraction
        rise = min(1.0, (used + 1e-3) / self.warmup) if self.warmup else 1.0
        return rise * (0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * used)))


class Stream(IterableDataset[Arrays]):
    """Endless batches from a function of a random generator; every worker draws its own.

    The batches are numpy arrays: they travel through a pipe, so a small `/dev/shm` does no harm.

    Args:
        draw: makes one batch.
        seed: every (seed, worker) pair gives its own stream.
    """

    def __init__(self, draw: Callable[[random.Random], Arrays], seed: int) -> None:
        super().__init__()
        self.draw = draw
        self.seed = seed

    def __iter__(self) -> Iterator[Arrays]:
        worker = get_worker_info()
        rng = random.Random(f"{self.seed}/{worker.id if worker else 0}")
        while True:
            yield self.draw(rng)


def batches(draw: Callable[[random.Random], Arrays], *, seed: int, workers: int) -> Iterator[Arrays]:
    """Start the workers and return their endless stream.

    Call it before CUDA is touched: workers are forked, and a forked process must not inherit a CUDA context.

    Args:
        draw: makes one batch from a random generator.
        seed: of the whole stream.
        workers: processes; 0 draws in this one.

    Raises:
        UserError: CUDA is already in use.
    """
    if workers and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        raise UserError("batches: CUDA is already in use: start the workers before any tensor goes to the GPU")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    loader: DataLoader[Any] = DataLoader(
        Stream(draw, seed),
        batch_size=None,
        num_workers=workers,
        collate_fn=_as_is,
        worker_init_fn=_one_thread,
        prefetch_factor=3 if workers else None,
        multiprocessing_context="fork" if workers else None,
        timeout=120 if workers else 0,
    )
    return iter(loader)


def optimiser(groups: list[tuple[list[torch.nn.Parameter], float]], device: torch.device) -> torch.optim.AdamW:
    """AdamW over `(parameters, peak learning rate)` groups; only matrices decay."""
    settings = []
    for parameters, rate in groups:
        for decays in (True, False):
            chosen = [parameter for parameter in parameters if (parameter.ndim > 1) == decays]
            settings.append({"params": chosen, "lr": rate, "peak": rate, "weight_decay": 0.01 if decays else 0.0})
    return torch.optim.AdamW(settings, betas=(0.9, 0.98), eps=1e-8, fused=device.type == "cuda")


def train(
    stream: Iterator[Arrays],
    loss: Callable[[Arrays], dict[str, Tensor]],
    weights: dict[str, float],
    optimizer: torch.optim.AdamW,
    budget: Budget,
    *,
    device: torch.device,
    save: Callable[[], None] | None = None,
    every: int = 50,
    save_seconds: float = 150.0,
) -> list[dict[str, float]]:
    """Train until the budget is used up.

    Args:
        stream: batches.
        loss: named loss terms of a batch, run under bf16 autocast on CUDA.
        weights: factor of each term; a term without one counts in full.
        optimizer: from `optimiser`.
        budget: its clock starts when the first batch is there.
        device: where to train.
        save: writes the results so far; called every `save_seconds`.
        every: steps between printed lines.
        save_seconds: seconds between saves.

    Returns:
        The mean of every term between printed lines, with `step` and `seconds`.

    Raises:
        UserError: the loss is not finite for 20 steps running.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    history: list[dict[str, float]] = []
    sums: dict[str, Tensor] = {}
    since, rows, bad, saved = 0, 0, 0, 0.0
    arrays = next(stream)
    budget.start()
    while budget.fraction < 1:
        for group in optimizer.param_groups:
            group["lr"] = group["peak"] * budget.rate()
        with autocast(device):
            terms = loss(arrays)
            total = torch.stack([weights.get(name, 1.0) * term for name, term in terms.items()]).sum()
        total.backward()  # type: ignore[no-untyped-call]
        norm = torch.nn.utils.clip_grad_norm_(parameters, 1.0)
        rows += len(next(iter(arrays.values())))
        arrays = next(stream)  # while the GPU works
        if torch.isfinite(norm):
            optimizer.step()
            bad = 0
            for name, term in {**terms, "norm": norm}.items():
                sums[name] = sums.get(name, torch.zeros((), device=device)) + term.detach()
            since += 1
        else:
            bad += 1
            if bad == 20:
                raise UserError(f"step {budget.done}: the loss is not finite 20 times running: lower --rate")
        optimizer.zero_grad(set_to_none=True)
        budget.done += 1
        if since and (since >= every or budget.fraction >= 1):
            line = {"step": float(budget.done), "seconds": budget.elapsed, "rows": float(rows)}
            line |= {name: float(value) / since for name, value in sums.items()}
            history.append(line)
            print(" ".join(f"{name} {value:.4g}" for name, value in line.items()), flush=True)
            sums, since = {}, 0
        if save and budget.elapsed - saved > save_seconds:
            saved = budget.elapsed
            save()
    if save:
        save()
    return history


def save_half(tensors: dict[str, Tensor], path: Path) -> None:
    """Write tensors as float16 safetensors, whole or not at all."""
    halves = {name: tensor.detach().to("cpu", torch.float16).contiguous() for name, tensor in tensors.items()}
    with atomic_path(path) as temporary:
        save_file(halves, temporary)


def load_part(module: torch.nn.Module, path: Path) -> bool:
    """Load a module's weights from `save_half`'s file; returns whether there was one.

    Raises:
        UserError: the file is for a module of another shape.
    """
    if not path.exists():
        return False
    try:
        module.load_state_dict({name: tensor.float() for name, tensor in load_file(path).items()})
    except (RuntimeError, SafetensorError):
        raise UserError(f"{path}: does not fit this {type(module).__name__}: was it made by another version?") from None
    return True


def _as_is(arrays: Any) -> Any:
    return arrays


def _one_thread(_worker: int) -> None:
    torch.set_num_threads(1)
