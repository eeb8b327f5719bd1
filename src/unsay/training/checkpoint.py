"""Checkpoints of a training run: whole or absent, and enough to continue bit for bit."""

import io
import pickle
import shutil
import zipfile
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
        scheduler: the learning-rate schedule's state.
        tokens: text tokens seen.
        flops: estimated operations so far.
        seconds: training time so far.
        key: content key of the run's inputs; a checkpoint of other inputs is not continued.
        image_tokens: image tokens seen.
    """

    step: int
    adapter: dict[str, torch.Tensor]
    optimizer: dict[str, Any]
    scheduler: dict[str, Any]
    tokens: int
    flops: float
    seconds: float
    key: str
    image_tokens: int = 0


def save_checkpoint(folder: Path, checkpoint: Checkpoint) -> Path:
    """Write `step-000123.pt` atomically and delete all but the newest few.

    Raises:
        UserError: the disk is full or the folder cannot be written.
    """
    path = folder / f"step-{checkpoint.step:06d}.pt"
    # By way of memory: given a path, torch.save reports a full disk as a failure of its own.
    whole = io.BytesIO()
    torch.save(vars(checkpoint), whole)
    with atomic_path(path) as temporary:
        temporary.write_bytes(whole.getbuffer())
    for old in sorted(folder.glob("step-*.pt"))[:-KEEP]:
        old.unlink()
    return path


def latest_checkpoint(folder: Path, key: str) -> Checkpoint | None:
    """The newest sound checkpoint of the same inputs; damaged ones and those of other inputs are deleted."""
    for path in sorted(folder.glob("step-*.pt"), reverse=True):
        checkpoint = _read(path)
        if checkpoint is not None and checkpoint.key == key:
            return checkpoint
        path.unlink(missing_ok=True)
    shutil.rmtree(folder, ignore_errors=True)
    return None


def _read(path: Path) -> Checkpoint | None:
    """A checkpoint, or None if it is damaged or was written by another version."""
    try:
        with zipfile.ZipFile(path) as archive:
            if archive.testzip() is not None:  # torch itself does not look at the checksums
                return None
        return Checkpoint(**torch.load(path, map_location="cpu", weights_only=True))
    except (
        zipfile.BadZipFile,
        pickle.UnpicklingError,
        RuntimeError,
        EOFError,
        TypeError,
        OSError,
        ValueError,
        KeyError,
    ):
        return None
