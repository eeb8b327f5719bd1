"""Compare the estimate of `unsay plan` with the memory that training takes on this machine's CPU.

    python -m tools.planning_measure --model pocket
    python -m tools.planning_measure --model FOLDER --random      # random weights in the shape of FOLDER's config.json

Memory is the growth of the resident set since before the model was loaded, sampled during the steps.
"""

import argparse
import json
import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psutil
import torch

from unsay.config import RunConfig
from unsay.methods import RoleBatch, build_method
from unsay.methods.base import Part
from unsay.models import VLM, attach, load
from unsay.planning.estimate import plan
from unsay.training import plan_training
from unsay.training.encode import Encoded, collate
from unsay.training.head import role_views


class Peak:
    """Samples the resident set every 5 ms; `bytes` is the largest."""

    def __init__(self) -> None:
        self.process, self.bytes, self._on = psutil.Process(), 0, True
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> "Peak":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._on = False
        self._thread.join()

    def _watch(self) -> None:
        while self._on:
            self.bytes = max(self.bytes, self.process.memory_info().rss)
            time.sleep(0.005)


def measure(config: RunConfig, model: VLM, prompt: int, answer: int, steps: int = 2) -> tuple[int, float]:
    """Peak bytes and the seconds of the last step, of a few steps on rows of equal length."""
    method = build_method(config.method, config.method_settings)
    vlm = attach(model, config.train.lora, 0)
    generator = torch.Generator().manual_seed(0)

    def row(part: Part) -> Encoded:
        # Random rows of one length share no prefix: every token is computed, as the estimate assumes.
        tokens = torch.randint(10, 1000, (prompt + answer,), generator=generator).tolist()
        return Encoded("", part, tuple(tokens[:prompt]), tuple(tokens[prompt:]))

    batch = collate(
        [row(part) for part, count in plan_training(method, config.train).rows.items() for _ in range(count)]
    )
    trained = [p for p in vlm.model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4)
    seconds = 0.0
    with Peak() as peak:
        for _ in range(steps):
            began = time.monotonic()
            views = role_views(vlm, batch, method.needs, config.train.head_chunk)
            method.loss(RoleBatch(views)).total.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            seconds = time.monotonic() - began
    return peak.bytes, seconds


def _random(folder: str) -> VLM:
    """A model with random weights, and the pocket VLM's processor: only lengths matter."""
    from transformers import AutoConfig, AutoModelForImageTextToText

    processor = load("pocket").processor
    config = AutoConfig.from_pretrained(folder, trust_remote_code=False)
    model: Any = AutoModelForImageTextToText.from_config(config, dtype=torch.float32, trust_remote_code=False)
    return VLM(folder, model.eval().requires_grad_(False), processor, "random")


def main() -> int:
    """Print the comparison as one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--random", action="store_true", help="random weights in the shape of the folder's config.json")
    parser.add_argument("--rows", type=int, default=4, help="examples of each role")
    parser.add_argument("--prompt", type=int, default=64)
    parser.add_argument("--answer", type=int, default=48)
    chosen = parser.parse_args()
    # Start again with a malloc that returns freed memory at once, so that the resident set is what is alive.
    if "MALLOC_MMAP_THRESHOLD_" not in os.environ:
        os.environ["MALLOC_MMAP_THRESHOLD_"] = "1048576"
        os.execv(sys.executable, [sys.executable, "-m", "tools.planning_measure", *sys.argv[1:]])
    batch = dict.fromkeys(("forget", "refuse", "retain"), chosen.rows)
    config = RunConfig.model_validate({"model": chosen.model, "train": {"batch": batch}})
    estimate = plan(config, prompt=chosen.prompt, answer=chosen.answer)
    before = psutil.Process().memory_info().rss
    vlm = _random(chosen.model) if chosen.random else load(chosen.model)
    peak, seconds = measure(config, vlm, chosen.prompt, chosen.answer)
    print(
        json.dumps(
            {
                "model": Path(chosen.model).name,
                "parameters": estimate.parameters,
                "tokens": estimate.tokens,
                "measured_bytes": peak - before,
                "estimated_bytes": estimate.memory.total,
                "ratio": round(estimate.memory.total / (peak - before), 3),
                "parts": vars(estimate.memory),
                "seconds": round(seconds, 2),
                "gflops_per_second": round(estimate.flops / seconds / 1e9, 1),
            }
        )
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
