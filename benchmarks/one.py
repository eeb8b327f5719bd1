"""One contender in a process of its own, so that its peak memory is its own: prints one line of JSON.

Usage: python benchmarks/one.py '{"contender": "unsay", "model": "pocket", "device": "cpu", "steps": 3, "threads": 2}'
"""

import gc
import json
import os
import sys
import warnings
from itertools import pairwise
from statistics import median
from typing import Any

import torch

from data import SETTINGS, examples
from machine import peak_bytes, timed
from recipes import plan, this_project, transformers_trainer, trl_dpo, usual_recipe
from unsay.models import load
from unsay.training.settings import TrainSettings


def run(spec: dict[str, Any], settings: TrainSettings = SETTINGS) -> dict[str, Any]:
    """Seconds per step, real tokens per step, and peak bytes above the loaded weights."""
    contender, count, device = spec["contender"], spec["steps"], spec["device"]
    vlm = load(spec["model"], device=device)
    rows = examples()
    method = "dpo" if contender == "unsay-dpo" else "textual-unlearning"
    if contender.endswith("dpo"):
        settings = settings.model_copy(
            update={"batch": settings.batch.model_copy(update={"forget": 5, "refuse": 5, "retain": 0})}
        )
        steps = plan(vlm, rows, settings, method) if contender == "unsay-dpo" else []
    else:
        steps = plan(vlm, rows, settings)
    gc.collect()
    base = start_of_peak(device)
    losses: list[float] = []
    if contender in ("trainer", "trl-dpo"):
        if contender == "trainer":
            ended = transformers_trainer(vlm, steps, settings, count + 1)
        else:
            ended = trl_dpo(vlm, rows, settings, count + 1)
        seconds = median(after - before for before, after in list(pairwise(ended))[1:])
    else:
        make = usual_recipe if contender == "recipe" else this_project
        step = make(vlm, steps, settings) if method != "dpo" else this_project(vlm, steps, settings, method)
        seconds = timed(lambda: losses.append(step()), device, warm=1, runs=count)
    tokens = median(sum(row.length for row in batch) for batch in steps[1 : count + 1]) if steps else None
    return {"contender": contender, "seconds": seconds, "tokens": tokens, "bytes": top(device) - base, "losses": losses}


def start_of_peak(device: str) -> int:
    """Forget the peak that loading had, where the system allows it; returns memory now."""
    if device.startswith("cuda"):
        torch.cuda.reset_peak_memory_stats()
        return torch.cuda.memory_allocated()
    try:
        with open("/proc/self/clear_refs", "w", encoding="ascii") as handle:
            handle.write("5")
    except OSError:
        pass
    return _status("VmRSS") or peak_bytes(device)


def top(device: str) -> int:
    """Peak memory since `start_of_peak`."""
    return peak_bytes(device) if device.startswith("cuda") else _status("VmHWM") or peak_bytes(device)


def _status(name: str) -> int:
    try:
        with open("/proc/self/status", encoding="ascii") as lines:
            return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(name + ":"))
    except (OSError, StopIteration):
        return 0


def main() -> None:
    """Run what the argument says."""
    warnings.simplefilter("ignore")
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    spec = json.loads(sys.argv[1])
    if spec.get("threads"):
        torch.set_num_threads(spec["threads"])
    try:
        result = run(spec)
    except ImportError as error:
        result = {"contender": spec["contender"], "missing": str(error)}
    print("RESULT " + json.dumps(result))


if __name__ == "__main__":
    main()
