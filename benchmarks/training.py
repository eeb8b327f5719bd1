"""Table 1: a training step of this project against what people do without it."""

import json
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

import torch
from machine import matmul_rate

from unsay.errors import UserError
from unsay.models.vlm import VLM

NAMES = {
    "unsay": "unsay",
    "recipe": "usual recipe: 3 forwards, 2 models, all logits",
    "trainer": "transformers.Trainer, same loss",
    "unsay-dpo": "unsay, method `dpo`",
    "trl-dpo": "TRL DPOTrainer",
}


def table(vlm: VLM, model: str, device: str, dtype: str, rounds: int, steps: int) -> dict[str, Any]:
    """Rows by contender; each round runs every contender once, in a process of its own."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in NAMES}
    for _ in range(rounds):
        for name in NAMES:
            if not any("missing" in row for row in found[name]):
                found[name].append(_one(name, model, device, dtype, steps))
    for name in ("unsay", "unsay-dpo"):
        if missing := next((row["missing"] for row in found[name] if "missing" in row), None):
            # Everything else is measured against it.
            raise UserError(f"{NAMES[name]} did not run, so there is nothing to compare with: {missing}")
    rate = matmul_rate(device, next(vlm.decoder.parameters()).dtype)
    parameters = sum(p.numel() for layer in vlm.layers for p in layer.parameters())
    rows = []
    for name, results in found.items():
        if missing := next((row["missing"] for row in results if "missing" in row), None):
            rows.append({"name": NAMES[name], "missing": missing})
            continue
        other = "unsay-dpo" if name.endswith("dpo") else "unsay"
        seconds = median(row["seconds"] for row in results)
        ours = median(row["seconds"] for row in found[other])
        # TRL reads the same pairs, and does not say how many tokens it made of them.
        tokens = results[0]["tokens"] or found[other][0]["tokens"]
        peak = median(row["bytes"] for row in results)
        rows.append(
            {
                "name": NAMES[name],
                "slower": seconds / ours,
                "memory": peak / median(row["bytes"] for row in found[other]),
                "tokens_per_second": tokens / seconds,
                "peak_bytes": peak,
                # Of the operations that nobody can do without, so that computing more than that does not look busy.
                "matmul_share": found[other][0]["operations"] * parameters / seconds / rate,
            }
        )
    return {"rate": rate, "rows": rows}


def _one(contender: str, model: str, device: str, dtype: str, steps: int) -> dict[str, Any]:
    spec = {
        "contender": contender,
        "model": model,
        "device": device,
        "dtype": dtype,
        "steps": steps,
        "threads": torch.get_num_threads(),
    }
    command = [sys.executable, str(Path(__file__).with_name("one.py")), json.dumps(spec)]
    done = subprocess.run(command, check=False, capture_output=True, text=True)
    for line in done.stdout.splitlines():
        if line.startswith("RESULT "):
            result: dict[str, Any] = json.loads(line.removeprefix("RESULT "))
            return result
    return {"contender": contender, "missing": (done.stderr.strip().splitlines() or ["it printed nothing"])[-1][:200]}
