"""What this machine can do, and what a process has used: the denominators of every figure."""

import os
import platform
import resource
import statistics
import sys
import time
from collections.abc import Callable

import torch


def now() -> float:
    """Seconds on the clock of the benchmarks: the wall's, or with BENCH_CLOCK=cpu this process's own.

    On a machine that others use too, the wall's says little; on an accelerator, the process's says nothing.
    """
    return time.process_time() if os.environ.get("BENCH_CLOCK") == "cpu" else time.perf_counter()


def describe(device: str) -> str:
    """The machine's name, for the head of a page."""
    if device.startswith("cuda"):
        return f"{torch.cuda.get_device_name()}, torch {torch.__version__}"
    name = platform.processor() or platform.machine()
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as lines:
            name = next(line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        pass
    return f"{name}, {torch.get_num_threads()} of {os.cpu_count()} cores, torch {torch.__version__}"


def matmul_rate(device: str, dtype: torch.dtype, rows: int = 2048, seconds: float = 1.0) -> float:
    """Operations per second of large matrix products: the most that a model could reach here."""
    wide = 1536 if device == "cpu" else 8192
    one, other = (
        torch.randn(rows, wide, device=device, dtype=dtype),
        torch.randn(wide, wide, device=device, dtype=dtype),
    )
    best = 0.0
    one @ other
    until = time.perf_counter() + seconds
    while not best or time.perf_counter() < until:
        synchronise(device)
        began = now()
        one @ other
        synchronise(device)
        best = max(best, 2 * rows * wide * wide / (now() - began))
    return best


def synchronise(device: str) -> None:
    """Wait until an accelerator has done what it was told."""
    if device.startswith("cuda"):
        torch.cuda.synchronize()


def peak_bytes(device: str) -> int:
    """Peak memory so far: of the accelerator, else of this process."""
    if device.startswith("cuda"):
        return torch.cuda.max_memory_allocated()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def timed(work: Callable[[], object], device: str, warm: int, runs: int) -> float:
    """Median seconds of several runs, after some that do not count."""
    for _ in range(warm):
        work()
    seconds = []
    for _ in range(runs):
        synchronise(device)
        began = now()
        work()
        synchronise(device)
        seconds.append(now() - began)
    return statistics.median(seconds)
