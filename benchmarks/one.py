"""One contender in a process of its own, so that its peak memory is its own: prints one line of JSON.

Usage: python benchmarks/one.py SPEC, with SPEC such as
    {"contender": "unsay", "model": "pocket", "device": "cpu", "dtype": "float32", "steps": 3, "threads": 2}
"""

import gc
import importlib
import json
import os
import sys
import warnings
from contextlib import suppress
from itertools import pairwise
from statistics import median
from typing import Any

import torch
from machine import peak_bytes, timed
from recipes import DPO, METHOD, operations, plan, this_project, transformers_trainer, trl_dpo, usual_recipe

from data import PAIRS, SETTINGS, examples, pairs
from unsay.models import ModelSettings, load


def run(spec: dict[str, Any]) -> dict[str, Any]:
    """Seconds per step, real tokens per step, and peak bytes above the loaded weights."""
    contender, count, device = spec["contender"], spec["steps"], spec["device"]
    vlm = load(spec["model"], device=device, settings=ModelSettings(dtype=spec["dtype"]))
    dpo = contender.endswith("dpo")
    rows, method, settings = (pairs(), DPO, PAIRS) if dpo else (examples(), METHOD, SETTINGS)
    steps = [] if contender == "trl-dpo" else plan(vlm, rows, settings, method)
    import_all()
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
        recipe = contender == "recipe"
        step = usual_recipe(vlm, steps, settings) if recipe else this_project(vlm, steps, settings, method)
        seconds = timed(lambda: losses.append(step()), device, warm=1, runs=count)
    tokens = median(sum(row.length for row in batch) for batch in steps[1 : count + 1]) if steps else None
    needed = median(operations(batch, method) for batch in steps[1 : count + 1]) if steps else None
    return {
        "contender": contender,
        "seconds": seconds,
        "tokens": tokens,
        "operations": needed,
        "bytes": top(device) - base,
        "losses": losses,
    }


def import_all() -> None:
    """Import what any contender needs, for all of them: code is no memory of a training step."""
    for name, needed in (("transformers", "Trainer"), ("datasets", "Dataset"), ("trl", "DPOTrainer")):
        with suppress(ImportError):  # whoever needs it will say that it is missing
            getattr(importlib.import_module(name), needed)


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
