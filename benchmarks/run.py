"""`make bench`: the four tables, ratios first; into `docs/results/performance.json` and the page beside it.

Usage: python benchmarks/run.py [--model NAME_OR_FOLDER] [--device cpu] [--rounds 3] [--steps 2] [--only training ...]
On a machine that others use too, BENCH_CLOCK=cpu counts this process's own seconds.
"""

import argparse
import datetime
import json
import os
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import evaluation
import growth
import multimodal
import torch
from machine import describe

import training
from unsay.errors import UserError
from unsay.files import atomic_path
from unsay.models import ModelSettings, load

TABLES = ("training", "multimodal", "evaluation", "growth")
START, END = "<!-- tables: written by benchmarks/run.py -->", "<!-- end of tables -->"


def main() -> None:
    """Run the tables and print them."""
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"), help="precision of everybody")
    parser.add_argument("--rounds", type=int, default=3, help="times that everything is run; medians are shown")
    parser.add_argument("--steps", type=int, default=2, help="training steps per round that count")
    parser.add_argument("--text", type=int, default=40, help="text prompts of table 3")
    parser.add_argument("--pictures", type=int, default=20, help="image prompts of table 3")
    parser.add_argument("--only", nargs="*", choices=TABLES, default=TABLES)
    parser.add_argument("--out", type=Path, default=Path("docs/results/performance.json"))
    given = parser.parse_args()
    vlm = load(given.model, device=given.device, settings=ModelSettings(dtype=given.dtype))
    work: dict[str, Callable[[], Any]] = {
        "training": lambda: training.table(vlm, given.model, given.device, given.dtype, given.rounds, given.steps),
        "multimodal": lambda: multimodal.table(vlm, given.device, given.rounds),
        "evaluation": lambda: evaluation.table(vlm, given.device, given.rounds, given.text, given.pictures),
        "growth": lambda: growth.table(vlm, given.device, given.rounds),
    }
    about = {
        "machine": describe(given.device),
        "model": given.model,
        "dtype": given.dtype,
        "threads": torch.get_num_threads(),
        "load_average": os.getloadavg()[0],
        "clock": os.environ.get("BENCH_CLOCK", "wall"),
        "date": datetime.date.today().isoformat(),
        "rounds": given.rounds,
    }
    print(f"{heading(about)}\n")
    for name in given.only:
        try:
            found = {"about": about, "rows": work[name]()}
        except UserError as error:
            sys.exit(f"error: {error}")
        print(markdown(name, found["rows"]) + "\n", flush=True)
        kept = merged(given.out, name, found)
    write_page(given.out.with_suffix(".md"), kept)


def heading(about: dict[str, Any]) -> str:
    """Where and how a table was measured, in one line."""
    return (
        f"{about['machine']}; model {about['model']} in {about.get('dtype', 'float32')}; "
        f"medians of {about['rounds']}; {about['clock']} clock; "
        f"load before the start {about['load_average']:.1f}; {about['date']}"
    )


def merged(path: Path, name: str, found: dict[str, Any]) -> dict[str, Any]:
    """Put one table into the file, at once; the others stay as they are, each with where it was measured."""
    kept: dict[str, Any] = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    kept[name] = found
    with atomic_path(path) as whole:
        whole.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
    return kept


def write_page(page: Path, kept: dict[str, Any]) -> None:
    """Write the tables between the page's markers; a page without markers is left alone."""
    if not page.is_file():
        return
    text = page.read_text(encoding="utf-8")
    if START not in text or END not in text:
        return
    tables = [
        f"{heading(kept[name]['about'])}\n\n{markdown(name, kept[name]['rows'])}" for name in TABLES if name in kept
    ]
    before, after = text.split(START)[0], text.split(END)[1]
    with atomic_path(page) as whole:
        whole.write_text("\n\n".join([before + START, *tables, END + after]), encoding="utf-8")


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
