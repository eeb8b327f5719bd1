"""Build the pocket VLM's weights: `python -m tools.pocket.build --step {text,characters,tokens,join} --out DIR`.

The four steps follow each other, each reading the files of the one before:

    text        SmolLM2 writes instructions and answers them        pairs.json.gz
    characters  the tower learns to see letters                     vision_tower.safetensors
    tokens      tower and projector learn to see words              vision_tower, projector
    join        everything learns together                          vision_tower, projector, language_lora

About twenty minutes in all on one H100; `--seconds` and `--steps` limit a step, `--init` continues from a folder.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from transformers import (
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    LlavaForConditionalGeneration,
    SiglipVisionConfig,
)

from tools.pocket import join, magpie, measure, places, read_characters, read_tokens, running, synthetic
from tools.pocket.conversations import Encoder
from unsay.errors import UserError
from unsay.files import write_json
from unsay.models import pocket
from unsay.models.pocket import assemble

RATES = {"characters": 1e-3, "tokens": 1e-3, "join": 4e-4}
"""Peak learning rate of tower and projector by step, unless `--rate` sets it."""


def main(arguments: list[str] | None = None) -> int:
    """Run one step; returns the exit code (2 for a mistake in the arguments or files)."""
    options = _parser().parse_args(arguments)
    if options.rate is None:
        options.rate = RATES.get(options.step)
    torch.set_float32_matmul_precision("high")
    try:
        STEPS[options.step](options)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


def run_text(options: argparse.Namespace) -> None:
    """Step 1: `--images` instruction/response pairs in SmolLM2's own words."""
    if math.isinf(options.images) and math.isinf(options.seconds):
        raise UserError("--step text has no end: give --images (how many pairs) or --seconds")
    device = torch.device(options.device)
    language, tokenizer = _language(options)
    magpie.write_pairs(
        language.to(device).eval(), Encoder(tokenizer), options.out,
        int(min(options.images, 10**9)), device=device, batch=options.batch, seconds=options.seconds, seed=options.seed,
    )  # fmt: skip


def run_characters(options: argparse.Namespace) -> None:
    """Step 2: the tower sees letters."""
    training, _ = synthetic.split_pairs(synthetic.read_pairs(_pairs_path(options)))
    stream = running.batches(
        lambda rng: places.character_batch(training, rng, options.batch), seed=options.seed, workers=options.workers
    )
    torch.manual_seed(options.seed)
    tower = _fresh_tower()
    history = read_characters.read_characters(
        tower, stream, options.out, _budget(options), device=torch.device(options.device), init=options.init,
        rate=options.rate, every=options.every,
    )  # fmt: skip
    write_json(options.out / "characters.json", history)


def run_tokens(options: argparse.Namespace) -> None:
    """Step 3: tower and projector see words."""
    training, _ = synthetic.split_pairs(synthetic.read_pairs(_pairs_path(options)))
    language, tokenizer = _language(options)
    stream = running.batches(
        lambda rng: places.token_batch(training, rng, options.batch, tokenizer),
        seed=options.seed, workers=options.workers,
    )  # fmt: skip
    torch.manual_seed(options.seed)
    inner = vlm_around(language).model
    history = read_tokens.read_tokens(
        inner.vision_tower, inner.multi_modal_projector, inner.language_model.embed_tokens.weight, stream, options.out,
        _budget(options), device=torch.device(options.device), init=options.init, rate=options.rate,
        every=options.every,
    )  # fmt: skip
    write_json(options.out / "tokens.json", history)


def run_join(options: argparse.Namespace) -> None:
    """Step 4, measured before and after."""
    began = time.monotonic()
    budget = _budget(options)
    training, held_out = synthetic.split_pairs(synthetic.read_pairs(_pairs_path(options)))
    language, tokenizer = _language(options)
    encoder = Encoder(tokenizer)
    mixture = synthetic.Mixture(*options.shares)
    draw = join.batch_drawer(encoder, training, mixture, options.batch)
    stream = running.batches(draw, seed=options.seed, workers=options.workers)  # before CUDA is touched

    device = torch.device(options.device)
    torch.manual_seed(options.seed)
    model = join.with_adapter(vlm_around(language), options.init).to(device)
    _say(f"{len(training)} pairs to learn from, {len(held_out)} held out; ready", began)

    def measured() -> dict[str, float]:
        return measure.measure(
            model, encoder, held_out, device=device, shape_questions=options.questions, texts=options.texts
        )

    before = measured()
    _say(f"before: {_line(before)}", began)
    history = join.join(
        model, stream, options.out, budget, device=device, rate=options.rate, lora_rate=options.lora_rate,
        every=options.every,
    )  # fmt: skip
    _say(f"saved in {options.out} after {budget.done} steps of {options.batch}", began)
    after = measured()
    _say(f"after: {_line(after)}", began)
    settings = {"batch": options.batch, "steps": budget.done, "seed": options.seed, "shares": asdict(mixture)}
    write_json(options.out / "join.json", {"settings": settings, "before": before, "after": after, "history": history})


def vlm_around(language: Any) -> Any:
    """The VLM with the original language model inside and a fresh tower and projector, in float32."""
    model = LlavaForConditionalGeneration(assemble.vlm_config(language.config)).float()
    model.model.language_model.load_state_dict(language.model.state_dict())
    model.tie_weights()
    return model


STEPS = {"text": run_text, "characters": run_characters, "tokens": run_tokens, "join": run_join}
"""Every step by its name on the command line."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m tools.pocket.build", description="Build the pocket VLM's weights, step by step."
    )
    add = parser.add_argument
    add("--step", required=True, choices=list(STEPS))
    add("--out", required=True, type=Path, help="folder for the files this step makes")
    add("--init", type=Path, help="folder with the files to go on from")
    add("--gguf", type=Path, help="SmolLM2-135M-Instruct's GGUF file, or a checkpoint folder (default: the pinned one)")
    add("--pairs", type=Path, help="the Magpie sample (default: pairs.json.gz in --init)")
    add("--device", default="cpu", help="cpu or cuda")
    add("--seconds", type=float, default=math.inf, help="limit of the training's wall time, loading not counted")
    add("--steps", type=float, default=math.inf, help="limit in optimiser steps")
    add("--images", type=float, default=math.inf, help="limit in samples (for text: in pairs)")
    add("--batch", type=int, default=96)
    add("--workers", type=int, default=0, help="processes that draw pictures")
    add("--rate", type=float, help="peak learning rate of tower and projector")
    add("--lora-rate", type=float, default=3e-4, help="peak learning rate of the adapter")
    add("--shares", type=float, nargs=4, default=(0.32, 0.40, 0.16, 0.12),
        metavar=("READ", "FOLLOW", "SHAPES", "CHAT"), help="what join learns from, in parts")  # fmt: skip
    add("--seed", type=int, default=0)
    add("--every", type=int, default=50, help="steps between printed lines")
    add("--questions", type=int, default=256, help="shape questions in a measurement")
    add("--texts", type=int, default=64, help="instructions in a measurement")
    return parser


def _budget(options: argparse.Namespace) -> running.Budget:
    steps = min(options.steps, options.images / options.batch)
    if math.isinf(steps) and math.isinf(options.seconds):
        raise UserError(f"--step {options.step} has no end: give --images, --steps or --seconds")
    return running.Budget(options.seconds, steps)


def _language(options: argparse.Namespace) -> tuple[Any, Any]:
    """The original language model in float32, and its tokenizer."""
    source = options.gguf or pocket.gguf()
    if source.is_dir():
        model = AutoModelForCausalLM.from_pretrained(source, dtype=torch.float32, trust_remote_code=False)
        return model, AutoTokenizer.from_pretrained(source, trust_remote_code=False)
    if not source.exists():
        raise UserError(f"{source}: no such file: give SmolLM2-135M-Instruct's GGUF file with --gguf")
    return assemble.load_gguf(source)


def _fresh_tower() -> Any:
    return AutoModel.from_config(SiglipVisionConfig(**assemble.VISION)).float()


def _pairs_path(options: argparse.Namespace) -> Path:
    if options.pairs:
        return Path(options.pairs)
    if options.init is None:
        raise UserError("--pairs is missing: give the Magpie sample, or an --init folder with pairs.json.gz")
    return Path(options.init) / "pairs.json.gz"


def _line(numbers: dict[str, float]) -> str:
    return "  ".join(f"{name} {value:.4f}" for name, value in numbers.items())


def _say(text: str, began: float) -> None:
    print(f"[{time.monotonic() - began:6.1f} s] {text}", flush=True)


if __name__ == "__main__":
    raise SystemExit(main())
