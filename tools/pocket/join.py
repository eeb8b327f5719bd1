"""Steps 5 and 6: the language model learns, by its LoRA, to read out, to obey and to answer questions.

In step 5 tower and projector are those of the steps before, and frozen: the page reaches the language model as words,
and what is left to learn is what to do with them; a step costs the language model alone. In step 6 they learn with it:
the tower finds what the language model can use.
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model, get_peft_model_state_dict, set_peft_model_state_dict
from safetensors.torch import load_file
from torch import Tensor

from tools.pocket import packed, read_tokens, running, synthetic
from tools.pocket.conversations import Encoder, Row
from tools.pocket.tower import learnable
from unsay.errors import UserError
from unsay.models.lora import fuse_lora

FILES = (*read_tokens.FILES, "language_lora.safetensors")
"""What this step reads (the last is optional: without it the adapter starts afresh) and writes."""

LOSS_WEIGHTS = {"transcribe": 1.0, "words": 0.5, "shapes": 1.0, "follow": 1.0, "chat": 1.0}
"""Means over the tokens of each goal; the answer to a question is one decisive word, a transcription many easy ones."""

LONGEST = 24
"""Tokens of an answer that is held to the original's: the first ones decide."""

TOWER_RATE = 0.1
"""Learning rate of tower and projector in step 6, as a share of the adapter's: they have learned for longer."""

_LORA_TARGETS = r"model\.language_model\.layers\.\d+\.self_attn\.[qkvo]_proj"


_INSIDE = "base_model.model.model."
"""What the names of the VLM's parts begin with inside a peft model."""


@dataclass(frozen=True)
class Batch:
    """Rows of one step, and the seed by which their blank patches are chosen."""

    rows: Sequence[Row]
    seed: int


def with_adapter(
    model: Any, folder: Path | None, *, rank: int = 16, dtype: torch.dtype = torch.float32, tower: bool = False
) -> Any:
    """Put a LoRA on q, k, v and o of the language model, which is to learn, and load the folder's weights.

    Args:
        model: the VLM with the *original* language model.
        folder: where `FILES` lie; None leaves the model as it is.
        rank: of a fresh adapter (alpha equals it, so its scale is 1).
        dtype: of the frozen weights; what learns is in float32.
        tower: whether tower and projector learn, too.

    Raises:
        UserError: a file does not fit the model, or the adapter matched nothing.
    """
    if folder is not None:
        running.load_part(model.model.vision_tower, folder / FILES[0])
        running.load_part(model.model.multi_modal_projector, folder / FILES[1])
    seeing = [model.model.vision_tower, model.model.multi_modal_projector]
    for part in [model.model.language_model, model.lm_head, *([] if tower else seeing)]:
        part.to(dtype)
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
    fuse_lora(model)
    if tower:
        for part in seeing:
            learnable(part)
    return model


def batch_drawer(
    encoder: Encoder, texts: synthetic.Texts, mixture: synthetic.Mixture, batch: int, *, size: int = 224
) -> running.Draw:
    """A function that draws one batch in the mixture's shares."""
    counts = mixture.counts(batch)

    def draw(rng: random.Random) -> Batch:
        rows = [
            encoder.row(synthetic.draw_sample(goal, texts, rng, size=size), LONGEST)
            for goal, number in counts.items()
            for _ in range(number)
        ]
        return Batch(rows, rng.getrandbits(32))

    return draw


def join(
    model: Any,
    encoder: Encoder,
    draw: running.Draw,
    out: Path,
    budget: running.Budget,
    *,
    init: Path,
    device: torch.device,
    peak: float = 4e-4,
    **more: Any,
) -> list[dict[str, float]]:
    """Train `with_adapter`'s model until the budget is used up; `FILES` appear in `out`.

    Args:
        model: from `with_adapter`, on `device`.
        encoder: the one that drew.
        draw: from `batch_drawer`.
        out: folder for `FILES`.
        budget: seconds or steps.
        init: folder with the tower and projector, which are copied if they do not learn.
        device: where the model is.
        peak: learning rate of the adapter.
        more: for `running.train`.
    """
    vlm = packed.opened(model.train())
    prefix = len(encoder.opening)
    learning = {name: value for name, value in model.named_parameters() if value.requires_grad}
    adapter = {name: value for name, value in learning.items() if "lora_" in name}
    seeing = {name: value for name, value in learning.items() if name not in adapter}
    if not seeing:
        running.hand_on(FILES[:2], init, out)
    parts = {_INSIDE + name: getattr(vlm.base.model, name) for name in ("vision_tower", "multi_modal_projector")}
    save_seeing = running.saving(parts, FILES[:2], out)

    def save(average: dict[str, Tensor]) -> None:
        running.save_half(get_peft_model_state_dict(model, state_dict=average), out / FILES[2])
        if seeing:
            save_seeing(average)

    return running.train(
        running.Learner([(adapter, peak)] + [(seeing, TOWER_RATE * peak)] * bool(seeing), device),
        draw,
        lambda batch: packed.losses(vlm, batch.rows, prefix, random.Random(batch.seed)),
        LOSS_WEIGHTS,
        budget,
        out,
        save=save,
        **more,
    )
