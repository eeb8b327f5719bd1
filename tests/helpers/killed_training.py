"""A training run that kills itself, as `kill -9` would; run by test_trainer in a process of its own."""

import os
import signal
from contextlib import contextmanager

from helpers import tiny
from helpers.training import train
from unsay.methods import build_method
from unsay.models import lora
from unsay.training import BatchSettings, TrainSettings, checkpoint

SETTINGS = TrainSettings(
    steps=7, batch=BatchSettings(forget=2, refuse=2, retain=2), learning_rate=1e-2, checkpoint_every=2
)


def run(folder, progress=None):
    """The run that is killed here and finished there."""
    return train(
        tiny.llava(), tiny.examples(), build_method("textual-unlearning"), SETTINGS, folder,
        probe_examples=tiny.probe(), progress=progress,
    )  # fmt: skip


def die():
    os.kill(os.getpid(), signal.SIGKILL)


def die_while_writing(module, name):
    """Die when half of a file of this name is on disk, not yet under its own name."""
    whole_path = module.atomic_path

    @contextmanager
    def half_path(path):
        with whole_path(path) as temporary:
            yield temporary
            if path.name == name:
                os.truncate(temporary, temporary.stat().st_size // 2)
                die()

    module.atomic_path = half_path


def run_and_die(folder, where):
    """`where`: a number of steps, `saving` (half a checkpoint is written) or `adapter` (half the adapter is)."""
    if where == "saving":
        die_while_writing(checkpoint, "step-000006.pt")
    elif where == "adapter":
        die_while_writing(lora, "adapter_model.safetensors")
    run(folder, lambda step, steps, row: die() if step == where else None)
    raise AssertionError("nobody killed this run")
