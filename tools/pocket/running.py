"""What every training step of the builder shares: batches by number, averaged weights, and a state to resume from.

A step of the builder has no planned length. The learning rate rises and then stays, and what is written out is the
weights' average over the last tenth of the training, which does a part of what a falling rate would; `--rate` may be
lowered at any moment. So a step can be stopped at any moment, be it by `kill -9`, and goes on with the same command to
the same weights.
"""

from __future__ import annotations

import math
import os
import random
import shutil
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from torch.utils.data import DataLoader, IterableDataset, get_worker_info

from unsay.errors import UserError
from unsay.files import atomic_path

Arrays = dict[str, NDArray[Any]]
"""A batch of arrays by name."""

Draw = Callable[[random.Random], Any]
"""Draws one batch from a random generator: arrays, or anything else that a process can hand to another."""

WARMUP = 20
"""Steps over which the learning rate rises."""

AVERAGED = 0.1
"""Share of the steps so far, the latest ones, over which the written weights are averaged."""

SAVE_SECONDS = 60.0
"""Between states: the most that a kill can cost."""

STATE_FILE = "state.pt"
"""Everything that a killed step needs to go on."""


@dataclass
class Budget:
    """How much a step may do in all, earlier processes included: the first limit that is reached ends it.

    Attributes:
        seconds: wall time of training; loading and measuring come on top.
        steps: optimiser steps.
        done: steps so far.
        before: seconds that earlier processes trained for.
    """

    seconds: float = math.inf
    steps: float = math.inf
    done: int = 0
    before: float = 0.0
    _started: float = field(default_factory=time.monotonic)

    def start(self) -> None:
        """Start the clock."""
        self._started = time.monotonic()

    @property
    def elapsed(self) -> float:
        """Seconds of training, those of earlier processes included."""
        return self.before + time.monotonic() - self._started

    @property
    def spent(self) -> bool:
        """Whether nothing is left."""
        return self.elapsed >= self.seconds or self.done >= self.steps


def rate(done: int) -> float:
    """Factor on the peak learning rate after `done` steps."""
    return min(1.0, (done + 1) / WARMUP)


class Stream(IterableDataset[Any]):
    """Endless batches by number: batch n is drawn from `(seed, n)` alone, whoever draws it and whenever.

    Batches hold numpy arrays rather than tensors: they travel through a pipe, so a small `/dev/shm` does no harm.
    """

    def __init__(self, draw: Draw, seed: int, first: int) -> None:
        super().__init__()
        self.draw, self.seed, self.first = draw, seed, first

    def __iter__(self) -> Iterator[Any]:
        worker = get_worker_info()
        number, stride = (worker.id, worker.num_workers) if worker else (0, 1)
        number += self.first
        while True:
            yield self.draw(random.Random(f"{self.seed}/{number}"))
            number += stride


def batches(draw: Draw, *, seed: int, workers: int, first: int = 0) -> Iterator[Any]:
    """Start the drawing processes and return their stream from batch `first` on, in order.

    Call it before CUDA is touched: workers are forked, and a forked process must not inherit a CUDA context.

    Args:
        draw: draws one batch.
        seed: of the whole stream.
        workers: drawing processes, which give way to every other process; 0 draws in this one.
        first: number of the first batch.

    Raises:
        UserError: CUDA is already in use.
    """
    if workers and torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
        raise UserError("batches: CUDA is already in use: start the workers before any tensor goes to the GPU")
    os.environ["TOKENIZERS_PARALLELISM"] = "false"
    loader: DataLoader[Any] = DataLoader(
        Stream(draw, seed, first),
        batch_size=None,
        num_workers=workers,
        collate_fn=_as_is,
        worker_init_fn=_giving_way,
        prefetch_factor=3 if workers else None,
        multiprocessing_context="fork" if workers else None,
        timeout=600 if workers else 0,
    )
    return iter(loader)


class Learner:
    """Weights that learn, their running average, and what is needed to go on after a kill.

    The tower's and projector's matrices learn by Muon (Jordan et al. 2024; scaled as in arXiv 2502.16982, section 2.2,
    so that AdamW's rates fit), everything else by AdamW: embeddings, convolutions, vectors, and the adapter, whose
    matrices are factors of one. In `tokens` Muon needs 2 to 10 times fewer pictures (docs/results/pocket-2.md).

    Args:
        groups: `(parameters by name, peak learning rate)`; only matrices decay.
        device: where the parameters are.
    """

    def __init__(self, groups: Sequence[tuple[dict[str, torch.nn.Parameter], float]], device: torch.device) -> None:
        self.parameters = {name: value for named, _ in groups for name, value in named.items()}
        self.average = {name: value.detach().clone() for name, value in self.parameters.items()}
        by_muon: list[dict[str, Any]] = []
        by_adam: list[dict[str, Any]] = []
        for named, peak in groups:
            for name, value in named.items():
                group = {"params": [value], "lr": peak, "peak": peak, "weight_decay": 0.01 if value.ndim > 1 else 0.0}
                (by_muon if _hidden(name, value) else by_adam).append(group)
        self.optimizers: list[torch.optim.Optimizer] = []
        if by_muon:
            self.optimizers.append(torch.optim.Muon(by_muon, adjust_lr_fn="match_rms_adamw"))
        if by_adam:
            self.optimizers.append(torch.optim.AdamW(by_adam, betas=(0.9, 0.98), eps=1e-8, fused=True))
        self.device = device

    @property
    def settings(self) -> list[dict[str, Any]]:
        """The parameter groups of all optimisers."""
        return [group for optimizer in self.optimizers for group in optimizer.param_groups]

    def step(self, done: int) -> bool:
        """One update with the gradients at hand, which are dropped; returns whether they were finite.

        Args:
            done: steps before this one.
        """
        for group in self.settings:
            group["lr"] = group["peak"] * rate(done)
        norm = torch.nn.utils.clip_grad_norm_(list(self.parameters.values()), 1.0)
        finite = bool(torch.isfinite(norm))
        if finite:
            for optimizer in self.optimizers:
                optimizer.step()
            share = 1 / max(1.0, AVERAGED * (done + 1))
            with torch.no_grad():
                torch._foreach_lerp_(list(self.average.values()), list(self.parameters.values()), share)
        for parameter in self.parameters.values():
            parameter.grad = None
        return finite

    def state(self) -> dict[str, Any]:
        """Everything, for `restore`."""
        weights = {name: value.detach() for name, value in self.parameters.items()}
        optimizers = [optimizer.state_dict() for optimizer in self.optimizers]
        return {"weights": weights, "average": self.average, "optimizers": optimizers}

    def restore(self, state: dict[str, Any], path: Path) -> None:
        """Take over `state()` of an earlier process, read from `path`.

        Raises:
            UserError: it is for other weights.
        """
        groups = [len(before["param_groups"]) for before in state.get("optimizers", ())]
        known = groups == [len(optimizer.param_groups) for optimizer in self.optimizers]
        if state["weights"].keys() != self.parameters.keys() or not known:
            raise UserError(
                f"{path}: the state of another model or step, or of another version: choose another --out, or delete it"
            )
        with torch.no_grad():
            for name, value in self.parameters.items():
                value.copy_(state["weights"][name])
                self.average[name].copy_(state["average"][name])
        peaks = [group["peak"] for group in self.settings]
        for optimizer, before in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(before)
        for group, peak in zip(self.settings, peaks, strict=True):
            group["peak"] = peak  # of this command, not of the one that was stopped


def _hidden(name: str, parameter: torch.nn.Parameter) -> bool:
    """Whether it is a matrix between two layers of features, which Muon is made for."""
    return parameter.ndim == 2 and "embedding" not in name and "lora_" not in name


def train(
    learner: Learner,
    draw: Draw,
    loss: Callable[[Any], dict[str, Tensor]],
    weights: dict[str, float],
    budget: Budget,
    out: Path,
    *,
    seed: int,
    save: Callable[[dict[str, Tensor]], None],
    workers: int = 0,
    every: int = 50,
) -> list[dict[str, float]]:
    """Train until the budget is used up, from where `out` has got to.

    Args:
        learner: the weights that learn.
        draw: draws one batch.
        loss: named loss terms of a batch.
        weights: factor of each term; a term without one counts in full.
        budget: its clock starts when the first batch is there.
        out: folder with the state.
        seed: of the batches.
        save: writes the averaged weights, by name, for the next step of the builder.
        workers: drawing processes.
        every: steps between printed lines.

    Returns:
        The mean of every term between printed lines, with `step` and `seconds`.

    Raises:
        UserError: the loss is not finite for 20 steps running, or the state is unreadable or another model's.
    """
    path = out / STATE_FILE
    history: list[dict[str, float]] = []
    if path.exists():
        state = _read_state(path)
        if state["seed"] != seed:
            raise UserError(f"{path}: was begun with --seed {state['seed']}: go on with it, or choose another --out")
        learner.restore(state, path)
        budget.done, budget.before, history = state["done"], state["seconds"], state["history"]
        print(f"goes on from step {budget.done} after {budget.before:.0f} s", flush=True)

    def keep() -> None:
        save(learner.average)
        _write_state(
            path,
            learner.state() | {"done": budget.done, "seconds": budget.elapsed, "history": history, "seed": seed},
        )

    stream = batches(draw, seed=seed, workers=workers, first=budget.done)
    sums: dict[str, Tensor] = {}
    since, bad = 0, 0
    if budget.done >= budget.steps:
        return history
    batch = next(stream)
    budget.start()
    saved = budget.elapsed
    while not budget.spent:
        terms = loss(batch)
        total = torch.stack([weights.get(name, 1.0) * term for name, term in terms.items()]).sum()
        total.backward()  # type: ignore[no-untyped-call]
        bad = 0 if learner.step(budget.done) else bad + 1
        budget.done += 1
        if bad == 20:
            raise UserError(f"step {budget.done}: the loss is not finite 20 times running: lower --rate")
        if not bad:
            for name, term in terms.items():
                sums[name] = sums.get(name, torch.zeros((), device=learner.device)) + term.detach()
            since += 1
        if since and (since >= every or budget.spent):
            line = {"step": float(budget.done), "seconds": budget.elapsed}
            line |= {name: float(value) / since for name, value in sums.items()}
            history.append(line)
            print(" ".join(f"{name} {value:.4g}" for name, value in line.items()), flush=True)
            sums, since = {}, 0
        if budget.elapsed - saved > SAVE_SECONDS:
            saved = budget.elapsed
            keep()
        if not budget.spent:
            batch = next(stream)
    keep()
    return history


def saving(modules: dict[str, torch.nn.Module], files: Sequence[str], out: Path) -> Callable[[dict[str, Tensor]], None]:
    """A function that writes one file for each module, given the averages of the weights that learn.

    Args:
        modules: by the name with which their weights' names begin, in the files' order.
        files: their names.
        out: folder for them.
    """

    def save(average: dict[str, Tensor]) -> None:
        for (name, module), file in zip(modules.items(), files, strict=True):
            weights = {key: average.get(f"{name}.{key}", value) for key, value in module.state_dict().items()}
            save_half(weights, out / file)

    return save


def hand_on(files: Sequence[str], init: Path, out: Path) -> None:
    """Copy what this step does not change, as far as the step before wrote it, for the step after."""
    for name in filter(lambda name: (init / name).exists(), files):
        with atomic_path(out / name) as temporary:
            shutil.copyfile(init / name, temporary)


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


def _write_state(path: Path, state: dict[str, Any]) -> None:
    with atomic_path(path) as temporary:
        torch.save(state, temporary)


def _read_state(path: Path) -> dict[str, Any]:
    try:
        state: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes torch raise nearly anything
        raise UserError(f"{path}: not readable ({type(error).__name__}): delete it to begin anew") from None
    return state


def _as_is(arrays: Any) -> Any:
    return arrays


def _giving_way(_worker: int) -> None:
    torch.set_num_threads(1)
    os.nice(10)
