"""Checkpoints of a training run: whole or absent, and enough to continue bit for bit."""

import pickle
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from unsay.files import atomic_path

KEEP = 2


@dataclass(frozen=True)
class Checkpoint:
    """Everything that training changes.

    Attributes:
        step: optimiser steps done.
        adapter: trainable parameters by name.
        optimizer: the optimiser's state dict.
        scheduler: the learning-rate scheduler's state dict.
        tokens: text tokens seen.
        flops: estimated operations so far.
        seconds: training time so far.
        key: content key of the run's inputs; a checkpoint of other inputs is not continued.
    """

    step: int
    adapter: dict[str, torch.Tensor]
    optimizer: dict[str, Any]
    scheduler: dict[str, Any]
    tokens: int
    flops: float
    seconds: float
    key: str


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write `step-000123.pt` atomically and delete all but the newest few."""
    path = folder / f"step-{checkpoint.step:06d}.pt"
    with atomic_path(path) as temporary:
        torch.save(vars(checkpoint), temporary)
    for old in sorted(folder.glob("step-*.pt"))[:-KEEP]:
        old.unlink()
    return path


def latest_checkpoint(folder: Path, key: str) -> Checkpoint | None:
    """The newest readable checkpoint of the same inputs; checkpoints of other inputs are deleted."""
    for path in sorted(folder.glob("step-*.pt"), reverse=True):
        try:
            checkpoint = Checkpoint(**torch.load(path, map_location="cpu", weights_only=True))
        except (RuntimeError, EOFError, TypeError, OSError, ValueError, pickle.UnpicklingError):
            # Written by another version or damaged from outside; an older one may still be good.
            continue
        if checkpoint.key == key:
            return checkpoint
    shutil.rmtree(folder, ignore_errors=True)
    return None
