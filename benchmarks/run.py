"""`make bench`: the four tables, ratios first; writes `docs/results/performance.json` and prints Markdown.

Usage: python benchmarks/run.py [--model NAME_OR_FOLDER] [--device cpu] [--rounds 3] [--steps 2] [--only training ...]
On a machine that others use too, BENCH_CLOCK=cpu counts this process's own seconds.
"""

import argparse
import datetime
import json
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch

import evaluation
import growth
import multimodal
import training
from machine import describe
from unsay.models import load

TABLES = ("training", "multimodal", "evaluation", "growth")


def main() -> None:
    """Run the tables and print them."""
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--rounds", type=int, default=3, help="times that each contender is run; medians are shown")
    parser.add_argument("--steps", type=int, default=2, help="training steps per round that count")
    parser.add_argument("--text", type=int, default=40, help="text prompts of table 3")
    parser.add_argument("--pictures", type=int, default=20, help="image prompts of table 3")
    parser.add_argument("--only", nargs="*", choices=TABLES, default=TABLES)
    parser.add_argument("--out", type=Path, default=Path("docs/results/performance.json"))
    given = parser.parse_args()
    vlm = load(given.model, device=given.device)
    work: dict[str, Callable[[], Any]] = {
        "training": lambda: training.table(vlm, given.model, given.device, given.rounds, given.steps),
        "multimodal": lambda: multimodal.table(vlm, given.device, 1),
        "evaluation": lambda: evaluation.table(vlm, given.device, max(1, given.rounds - 1), given.text, given.pictures),
        "growth": lambda: growth.table(vlm, given.device, given.rounds),
    }
    found: dict[str, Any] = {
        "machine": describe(given.device),
        "model": given.model,
        "threads": torch.get_num_threads(),
        "load_average": os.getloadavg()[0],
        "clock": os.environ.get("BENCH_CLOCK", "wall"),
        "date": datetime.date.today().isoformat(),
    }
    print(f"{found['machine']}; {given.model}; load before the start {found['load_average']:.1f}\n")
    for name in given.only:
        found[name] = work[name]()
        print(markdown(name, found[name]) + "\n", flush=True)
    given.out.parent.mkdir(parents=True, exist_ok=True)
    given.out.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")


def markdown(name: str, found: Any) -> str:
    """One table, for people."""
    if name == "training":
        lines = [
            "| training step | time, × unsay's | memory above weights, × unsay's | real tokens/s | peak above weights "
            "| share of matmul rate |",
            "|---|---|---|---|---|---|",
        ]
        for row in found["rows"]:
            if "missing" in row:
                lines.append(f"| {row['name']} | not run: {row['missing']} | | | | |")
                continue
            lines.append(
                f"| {row['name']} | {row['slower']:.2f} | {row['memory']:.2f} | {row['tokens_per_second']:.0f} "
                f"| {row['peak_bytes'] / 2**30:.2f} GiB | {row['matmul_share']:.0%} |"
            )
        lines.append(f"\nLarge matrix products here: {found['rate'] / 1e9:.0f} GFLOP/s.")
    elif name == "multimodal":
        lines = ["| image tokens | time, × text-only | seconds per 3 examples |", "|---|---|---|"]
        lines += [f"| {row['image_tokens']:,} | {row['times']:.1f} | {row['seconds']:.2f} |" for row in found]
    elif name == "evaluation":
        lines = [
            "| prompts | × one by one | × batched generate | prompts/s: one by one | batched | unsay | same answers |",
            "|---|---|---|---|---|---|---|",
        ]
        for row in found:
            rates = " | ".join(f"{row['rates'][way]:.2f}" for way in ("one", "batched", "unsay"))
            ratios = f"{row['against_one']:.1f} | {row['against_batched']:.1f}"
            lines.append(f"| {row['prompts']} {row['suite']} | {ratios} | {rates} | {row['same']:.0%} |")
    else:
        lines = ["| what grows | to | time, × the first | seconds |", "|---|---|---|---|"]
        lines += [f"| {row['what']} | {row['value']} | {row['times']:.2f} | {row['seconds']:.2f} |" for row in found]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
