"""Where the time of one training step goes: operators' shares, into `docs/results/profile.json`.

Usage: python benchmarks/profile_step.py [--model NAME_OR_FOLDER] [--dtype float32]
"""

import argparse
import os
import warnings
from pathlib import Path

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from machine import describe, matmul_rate
from recipes import METHOD, operations, plan, this_project
from torch.profiler import ProfilerActivity, profile

from data import SETTINGS, examples
from unsay.files import write_json
from unsay.models import ModelSettings, load

KINDS = {
    "matrix products": ("aten::mm", "aten::addmm", "aten::bmm", "aten::addmm_", "aten::linear"),
    "attention": ("scaled_dot_product", "flash_attention"),
    "sums and products of elements": ("aten::mul", "aten::add", "aten::sub", "aten::div", "aten::neg", "aten::pow"),
    "copies": ("aten::copy_", "aten::cat", "aten::index", "aten::contiguous", "aten::clone", "aten::fill_"),
    "softmax, norm and activation": ("exp", "logsumexp", "softmax", "silu", "rsqrt", "mean", "sum"),
}
"""What a group of operators is called → parts of their names; the first that fits counts."""


def main() -> None:
    """Profile the third step of a run; the first ones make buffers."""
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--out", type=Path, default=Path("docs/results/profile.json"))
    given = parser.parse_args()
    vlm = load(given.model, settings=ModelSettings(dtype=given.dtype))
    steps = plan(vlm, examples(), SETTINGS)
    step = this_project(vlm, steps, SETTINGS)
    step()
    step()
    with profile(activities=[ProfilerActivity.CPU]) as seen:
        step()
    spent = {event.key: event.self_cpu_time_total / 1e6 for event in seen.key_averages()}
    total = sum(spent.values())
    batch = steps[2 % len(steps)]
    parameters = sum(p.numel() for layer in vlm.layers for p in layer.parameters() if not p.requires_grad)
    needed = operations(batch, METHOD) * parameters
    products = sum(seconds for name, seconds in spent.items() if _kind(name) == "matrix products")
    groups = dict.fromkeys((*KINDS, "everything else"), 0.0)
    for name, seconds in spent.items():
        groups[_kind(name)] += seconds
    found = {
        "machine": describe("cpu"),
        "model": given.model,
        "dtype": given.dtype,
        "examples": len(batch),
        "tokens": sum(row.length for row in batch),
        "seconds": total,
        "shares": {name: seconds / total for name, seconds in groups.items()},
        "largest": {name: spent[name] / total for name in sorted(spent, key=lambda name: -spent[name])[:12]},
        "needed_gflop": needed / 1e9,
        "products_gflop_per_second": needed / 1e9 / products,
        "large_product_gflop_per_second": matmul_rate("cpu", next(vlm.decoder.parameters()).dtype) / 1e9,
    }
    write_json(given.out, found)
    print(f"{found['machine']}; {given.model} in {given.dtype}; {found['tokens']} tokens; {total:.2f} s")
    for name, share in found["shares"].items():
        print(f"{share:6.1%}  {name}")


def _kind(name: str) -> str:
    return next((kind for kind, parts in KINDS.items() if any(part in name for part in parts)), "everything else")


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
