"""Build the pocket VLM's weights: `python -m tools.pocket.build --step STEP --out DIR`.

The steps follow each other, each reading the files of the one before from `--init`:

    text        SmolLM2 writes instructions and answers them        pairs.json.gz
    characters  the tower learns to see letters                     vision_tower.safetensors
    tokens      tower and projector learn to see words              vision_tower, projector
    pages       they learn to see any page as a plain one           vision_tower, projector
    join        the language model learns to use what it sees       language_lora
    together    all three learn from the language model's answers   all three
    measure     what the weights can do                             measure.json
    checkpoint  the whole pocket, to be evaluated or used           a LLaVA checkpoint

`--seconds` and `--steps` limit a step; the same command goes on with it (docs/pocket.md).
"""

from __future__ import annotations

import argparse
import math
import sys
from dataclasses import astuple
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

from tools.pocket import join, magpie, measure, places, read_characters, read_tokens, running, see_pages, synthetic
from tools.pocket.conversations import Encoder
from tools.pocket.tower import fastest
from unsay.errors import UserError
from unsay.files import write_json
from unsay.models import pocket
from unsay.models.pocket import assemble

RATES = {"characters": 1e-3, "tokens": 1e-3, "pages": 3e-4, "join": 4e-4, "together": 4e-4}
"""Learning rate by step, unless `--rate` sets it."""


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
    texts = _texts(options)
    torch.manual_seed(options.seed)
    history = read_characters.read_characters(
        _fresh_tower(), lambda rng: places.character_batch(texts, rng, options.batch), options.out,
        _budget(options), device=torch.device(options.device), init=options.init, peak=options.rate,
        **_training(options),
    )  # fmt: skip
    write_json(options.out / "characters.json", history)


def run_tokens(options: argparse.Namespace) -> None:
    """Step 3: tower and projector see words."""
    texts = _texts(options)
    language, tokenizer = _language(options)
    torch.manual_seed(options.seed)
    inner = vlm_around(language).model
    goes_on = options.init is not None and (options.init / read_tokens.FILES[1]).is_file()
    scenes = places.SCENES if goes_on else 0.0  # a tower that reads for the first time knows no shapes yet
    history = read_tokens.read_tokens(
        inner.vision_tower, inner.multi_modal_projector, inner.language_model.embed_tokens.weight,
        lambda rng: places.token_batch(texts, rng, options.batch, tokenizer, scenes=scenes), options.out,
        _budget(options),
        device=torch.device(options.device), init=options.init, peak=options.rate, **_training(options),
    )  # fmt: skip
    write_json(options.out / "tokens.json", history)


def run_pages(options: argparse.Namespace) -> None:
    """Step 4: any page as the plain page that says the same."""
    if options.init is None:
        raise UserError(
            "--init is missing: give the folder of a pocket: it is the teacher, and where the student begins"
        )
    texts = _texts(options)
    language, _ = _language(options)
    torch.manual_seed(options.seed)
    inner = vlm_around(language).model
    history = see_pages.see_pages(
        inner.vision_tower, inner.multi_modal_projector,
        lambda rng: see_pages.page_batch(texts, rng, options.batch), options.out, _budget(options),
        device=torch.device(options.device), init=options.init, peak=options.rate, **_training(options),
    )  # fmt: skip
    write_json(options.out / "pages.json", history)


def run_join(options: argparse.Namespace) -> None:
    """Steps 5 and 6: the language model learns to use what it sees; in `together` tower and projector learn with it."""
    if options.init is None:
        raise UserError("--init is missing: give the folder of the step before, whose tower and projector are read")
    texts = _texts(options)
    language, tokenizer = _language(options)
    encoder = Encoder(tokenizer)
    device = torch.device(options.device)
    torch.manual_seed(options.seed)
    together = options.step == "together"
    model = join.with_adapter(vlm_around(language), options.init, dtype=fastest(device), tower=together).to(device)
    draw = join.batch_drawer(encoder, texts, synthetic.Mixture(*options.shares), options.batch)
    history = join.join(
        model, encoder, draw, options.out, _budget(options), init=options.init, device=device, peak=options.rate,
        **_training(options),
    )  # fmt: skip
    write_json(
        options.out / f"{options.step}.json", {"shares": options.shares, "batch": options.batch, "history": history}
    )


def run_measure(options: argparse.Namespace) -> None:
    """What the weights in --init can do; they may still be learning."""
    _, held_out = _pairs(options)
    language, tokenizer = _language(options)
    device = torch.device(options.device)
    model = join.with_adapter(vlm_around(language), options.init, dtype=fastest(device)).to(device)
    numbers = measure.measure(
        model, Encoder(tokenizer), held_out, synthetic.own_prompts()[1], device=device,
        shape_questions=options.questions, texts=options.texts,
    )  # fmt: skip
    print("  ".join(f"{name} {value:.4f}" for name, value in numbers.items()))
    write_json(options.out / "measure.json", numbers)


def run_checkpoint(options: argparse.Namespace) -> None:
    """The weights in --init as a standard LLaVA checkpoint, which `unsay evaluate --model FOLDER` takes."""
    if options.init is None:
        raise UserError("--init is missing: give the folder of a pocket")
    assemble.save(*assemble.assemble(*_language(options), options.init), options.out)


def vlm_around(language: Any) -> Any:
    """The VLM with the original language model inside and a fresh tower and projector, in float32."""
    model = LlavaForConditionalGeneration(assemble.vlm_config(language.config)).float()
    model.model.language_model.load_state_dict(language.model.state_dict())
    model.tie_weights()
    return model


STEPS = {
    "text": run_text,
    "characters": run_characters,
    "tokens": run_tokens,
    "pages": run_pages,
    "join": run_join,
    "together": run_join,
    "measure": run_measure,
    "checkpoint": run_checkpoint,
}
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
    add("--rate", type=float, help="learning rate")
    add("--shares", type=float, nargs=5, default=list(astuple(synthetic.Mixture())),
        metavar=("READ", "FOLLOW", "WORDS", "SHAPES", "CHAT"), help="what join learns from, in parts")  # fmt: skip
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


def _training(options: argparse.Namespace) -> dict[str, Any]:
    """What `running.train` is told beside the model and its loss."""
    return {"seed": options.seed, "workers": options.workers, "every": options.every}


def _texts(options: argparse.Namespace) -> synthetic.Texts:
    """What is learned from."""
    return synthetic.Texts(_pairs(options)[0], synthetic.own_prompts()[0])


def _pairs(options: argparse.Namespace) -> tuple[list[synthetic.Pair], list[synthetic.Pair]]:
    """`(training, held out)` of the Magpie sample; the suites' own texts are in neither."""
    return synthetic.split_pairs(synthetic.without_suites(synthetic.read_pairs(_pairs_path(options))))


def _pairs_path(options: argparse.Namespace) -> Path:
    if options.pairs:
        return Path(options.pairs)
    if options.init is None:
        raise UserError("--pairs is missing: give the Magpie sample, or an --init folder with pairs.json.gz")
    return Path(options.init) / "pairs.json.gz"


if __name__ == "__main__":
    raise SystemExit(main())
