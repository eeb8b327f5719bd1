"""Step 4: language model (LoRA), tower and projector learn together to read, to obey pictures and to see shapes."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file

from tools.pocket import running, synthetic
from tools.pocket.conversations import Encoder, losses, to_device
from unsay.errors import UserError

FILES = ("vision_tower.safetensors", "projector.safetensors", "language_lora.safetensors")
"""What this step reads (the last is optional: without it the adapter starts afresh) and writes."""

LOSS_WEIGHTS = {"transcribe": 1.0, "shapes": 0.5, "kl": 1.0}
"""Means over the tokens of each goal; a shape answer is one decisive word, a transcription many easy ones."""

_LORA_TARGETS = r"model\.language_model\.layers\.\d+\.self_attn\.[qkvo]_proj"


def with_adapter(model: Any, folder: Path | None, *, rank: int = 16) -> Any:
    """Put a LoRA on q, k, v and o of the language model, load the folder's weights, and free what is to learn.

    Args:
        model: the VLM with the *original* language model, in float32.
        folder: where `FILES` lie; None leaves the model as it is.
        rank: of a fresh adapter (alpha equals it, so its scale is 1).

    Raises:
        UserError: a file does not fit the model, or the adapter matched nothing.
    """
    if folder is not None:
        running.load_part(model.model.vision_tower, folder / FILES[0])
        running.load_part(model.model.multi_modal_projector, folder / FILES[1])
    model.requires_grad_(False)
    model = get_peft_model(model, LoraConfig(r=rank, lora_alpha=rank, lora_dropout=0.0, target_modules=_LORA_TARGETS))
    if folder is not None and (folder / FILES[2]).exists():
        adapter = {key: tensor.float() for key, tensor in load_file(folder / FILES[2]).items()}
        result = set_peft_model_state_dict(model, adapter)
        lost = [key for key in result.missing_keys if "lora_" in key]
        if lost or result.unexpected_keys:
            raise UserError(
                f"{folder / FILES[2]}: {len(lost)} adapter weights missing, {len(result.unexpected_keys)} unknown"
            )
    inner = model.get_base_model().model
    inner.vision_tower.requires_grad_(True)
    inner.multi_modal_projector.requires_grad_(True)
    # Not on the way to `vision_feature_layer=-1`, which is the encoder's output before this norm.
    inner.vision_tower.post_layernorm.requires_grad_(False)
    return model


def batch_drawer(
    encoder: Encoder, pairs: list[synthetic.Pair], mixture: synthetic.Mixture, batch: int, *, size: int = 224
) -> Callable[[random.Random], running.Arrays]:
    """A function that draws one batch in the mixture's shares."""
    counts = mixture.counts(batch)

    def draw(rng: random.Random) -> running.Arrays:
        samples = [
            synthetic.draw_sample(goal, pairs, rng, size=size) for goal, number in counts.items() for _ in range(number)
        ]
        return encoder.batch(samples)

    return draw


def join(
    model: Any,
    stream: Iterator[running.Arrays],
    out: Path,
    budget: running.Budget,
    *,
    device: torch.device,
    rate: float = 4e-4,
    lora_rate: float = 3e-4,
    every: int = 50,
) -> list[dict[str, float]]:
    """Train `with_adapter`'s model until the budget is used up; the files appear in `out` every 150 seconds.

    Args:
        model: from `with_adapter`, on `device`.
        stream: batches of `Encoder.batch` arrays.
        out: folder for `FILES`.
        budget: seconds or steps.
        device: where the model is.
        rate: peak learning rate of tower and projector.
        lora_rate: peak learning rate of the adapter.
        every: steps between printed lines.
    """
    vision = [value for name, value in model.named_parameters() if value.requires_grad and "lora_" not in name]
    adapter = [value for name, value in model.named_parameters() if value.requires_grad and "lora_" in name]
    optimizer = running.optimiser([(vision, rate), (adapter, lora_rate)], device)
    model.train()
    return running.train(
        stream,
        lambda arrays: losses(model, to_device(arrays, device)),
        LOSS_WEIGHTS,
        optimizer,
        budget,
        device=device,
        save=lambda: save(model, out),
        every=every,
    )


def save(model: Any, out: Path) -> None:
    """Write `FILES` in float16."""
    inner = model.get_base_model().model
    running.save_half(inner.vision_tower.state_dict(), out / FILES[0])
    running.save_half(inner.multi_modal_projector.state_dict(), out / FILES[1])
    running.save_half(get_peft_model_state_dict(model), out / FILES[2])
