"""Whether transformers' continuous batching pays here: text prompts by it, by its `generate`, and by the own loop.

Usage: python benchmarks/continuous_batching.py [--model NAME_OR_FOLDER] [--device cpu] [--prompts 40] [--rounds 3]
All three answer the same prompts greedily; `generate` gets the batches that unsay makes, sorted by length and filled to
a budget of tokens.
"""

import argparse
import os
import time
import warnings
from pathlib import Path
from statistics import median

os.environ.setdefault("HF_HUB_OFFLINE", "1")

from machine import describe

from data import prompts
from unsay.files import write_json
from unsay.generation import GenerationSettings, respond
from unsay.models import load

WAYS = {"own loop": (True, False), "generate": (False, False), "continuous batching": (False, True)}
"""Name → whether the own loop may answer, whether continuous batching may."""


def main() -> None:
    """Time the three in turn and write medians."""
    warnings.simplefilter("ignore")
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="pocket")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--prompts", type=int, default=40)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=Path("docs/results/continuous.json"))
    given = parser.parse_args()
    vlm = load(given.model, device=given.device)
    asked = prompts(given.prompts)
    settings = GenerationSettings(max_new_tokens=given.tokens)
    seconds: dict[str, list[float]] = {name: [] for name in WAYS}
    said: dict[str, dict[str, str]] = {}
    for _ in range(given.rounds):
        for name, (own, continuous) in WAYS.items():
            respond.fits = lambda *_, own=own: own
            respond.pays = lambda *_, continuous=continuous: continuous
            start = time.perf_counter()
            said[name] = {row.id: row.response for batch in respond.generate(vlm, asked, settings) for row in batch}
            seconds[name].append(time.perf_counter() - start)
    found = {
        "machine": describe(given.device),
        "model": given.model,
        "prompts": given.prompts,
        "tokens": given.tokens,
        "seconds": {name: median(times) for name, times in seconds.items()},
        "same_answers": {name: sum(said[name][row.id] == said["generate"][row.id] for row in asked) for name in WAYS},
    }
    write_json(given.out, found)
    print(found["machine"])
    for name in WAYS:
        print(
            f"{found['seconds'][name]:6.2f} s  {found['same_answers'][name]} of {len(asked)} as generate says  {name}"
        )


if __name__ == "__main__":
    main()
