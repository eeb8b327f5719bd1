"""What a training run writes as it goes: checkpoints, enough to continue bit for bit, and a row of metrics per step."""

import io
import json
import pickle
import shutil
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from unsay.files import append_text, atomic_path, write_text

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
        key: content key of plan and model; a checkpoint of others is not continued.
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
    """Write `step-000123.pt` atomically and delete all but the newest few."""
    path = folder / f"step-{checkpoint.step:06d}.pt"
    # Through memory: given a path, torch.save reports a full disk as an error of its own.
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
            if archive.testzip() is not None:  # torch itself does not check them
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


class Metrics:
    """A run's `metrics.jsonl`, one row per step; a torn last line of a killed run is dropped.

    Of several processes that train together only one `writes`.
    """

    def __init__(self, path: Path, *, writes: bool = True) -> None:
        self.path, self._writes = path, writes

    def keep_until(self, step: int) -> None:
        """Drop rows after `step`: their work is done again, or was discarded."""
        if not self._writes:
            return
        rows = []
        for line in self.path.read_text(encoding="utf-8").splitlines() if self.path.exists() else []:
            try:
                row = json.loads(line)
            except json.JSONDecodeError:
                break
            if row["step"] <= step:
                rows.append(line + "\n")
        write_text(self.path, "".join(rows))

    def add(self, row: Mapping[str, float]) -> None:
        """Append one step's meters."""
        if self._writes:
            append_text(self.path, json.dumps(row) + "\n")
