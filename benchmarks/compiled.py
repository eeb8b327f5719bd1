"""Whether `torch.compile` pays for a training step here: one adapted layer of the decoder, plain and compiled.

Usage: python benchmarks/compiled.py [--model NAME_OR_FOLDER] [--dtype float32] [--rounds 20]
One layer tells: all others are alike, and a step is little else. Forward and backward are timed in turn on a row of as
many tokens as the demo's batch has; beside the ratio stands how long the compiler took, for one layer and one shape.
"""

import argparse
import os
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from statistics import median

os.environ.setdefault("HF_HUB_OFFLINE", "1")

import torch
from machine import describe

from data import SETTINGS
from unsay.files import write_json
from unsay.models import ModelSettings, attach, load
from unsay.models.vlm import VLM


def main() -> None:
    """Time both and write the ratio."""
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--tokens", type=int, default=800)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--out", type=Path, default=Path("docs/results/compiled.json"))
    given = parser.parse_args()
    vlm = attach(load(given.model, settings=ModelSettings(dtype=given.dtype)), SETTINGS.lora, seed=0)
    plain = _pass(vlm, vlm.layers[1], given.tokens)
    compiled = _pass(vlm, torch.compile(vlm.layers[1]), given.tokens)
    _seconds(plain)
    compiling = _seconds(compiled)
    _seconds(compiled)
    seconds: dict[str, list[float]] = {"plain": [], "compiled": []}
    for _ in range(given.rounds):
        seconds["plain"].append(_seconds(plain))
        seconds["compiled"].append(_seconds(compiled))
    medians = {name: median(rows) for name, rows in seconds.items()}
    found = {
        "machine": describe("cpu"),
        "model": given.model,
        "dtype": given.dtype,
        "tokens": given.tokens,
        "rounds": given.rounds,
        "seconds": medians,
        "compiling_seconds": compiling,
        "ratio": medians["compiled"] / medians["plain"],
        "layers": len(vlm.layers),
    }
    write_json(given.out, found)
    print(
        f"{found['machine']}; one of {len(vlm.layers)} layers of {given.model} in {given.dtype}, {given.tokens} tokens"
    )
    print(f"compiled: {found['ratio']:.2f} × the time of plain; compiling took {compiling:.0f} s")


def _pass(vlm: VLM, layer: Callable[..., torch.Tensor], tokens: int) -> Callable[[], None]:
    """A forward and a backward pass through one layer."""
    dtype = next(vlm.decoder.parameters()).dtype
    hidden = torch.randn(1, tokens, vlm.base.config.get_text_config().hidden_size, dtype=dtype, requires_grad=True)
    positions = torch.arange(tokens)[None]
    rotary = tuple(each.detach() for each in vlm.decoder.rotary_emb(hidden, positions))

    def both() -> None:
        out = layer(hidden, attention_mask=None, position_ids=positions, position_embeddings=rotary)
        (out if isinstance(out, torch.Tensor) else out[0]).float().square().sum().backward()
        hidden.grad = None

    return both


def _seconds(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


if __name__ == "__main__":
    torch.manual_seed(0)
    main()
