"""Step 3: tower and projector learn to put each token's input embedding at the patch where the token stands.

Without this the language model has to find out by itself that the image's tokens are text; with it, a page of pixels
reaches it nearly as the words would have. No language model takes part, only its embeddings.

A pocket can go on with this step to read more words: its language model knows these embeddings. Shapes have no tokens,
so the tower is to see them as it did when the step began.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from tools.pocket import running
from tools.pocket.places import AS_BEFORE, BLANK
from tools.pocket.tower import Teacher, attending, autocast, features, learnable, pixel_values

FILES = ("vision_tower.safetensors", "projector.safetensors")

STRANGERS = 4096
"""Tokens, chosen anew in each step, among which those of the batch are to be told: a twelfth of the vocabulary."""

SHAPES_WEIGHT = 3.0
"""Against the cross-entropy, which is some times larger."""

_SHARPNESS = 20.0  # cosines lie in -1..1; this makes logits of them that can tell 49,152 tokens apart


def loss(
    tower: Any,
    projector: Any,
    embedding: Tensor,
    arrays: running.Arrays,
    device: torch.device,
    teacher: Teacher | None = None,
) -> dict[str, Tensor]:
    """Cosine cross-entropy over the batch's tokens and `STRANGERS`, and distance to the embedding (to zero if blank).

    `shapes` is the distance of shapes to what the teacher sees, as a share of what they add to an empty page.

    Args:
        tower: the vision tower.
        projector: maps its features to the language model's width.
        embedding: V × D, the language model's input embeddings, frozen.
        arrays: from `places.token_batch`.
        device: where all of that is.
        teacher: tower and projector as they were when the step began; None if the batch holds no shapes.
    """
    with autocast(device), attending():
        projected = projector(features(tower, pixel_values(arrays["images"], device))).flatten(0, 1)
        tokens = torch.from_numpy(arrays["tokens"]).to(device).flatten()
        here, blank = tokens >= 0, tokens == BLANK
        projected = projected.float()
        seen, target = projected[here], tokens[here]
        known = torch.unique(target)
        strangers = torch.randint(len(embedding), (STRANGERS,), generator=_chance(arrays)).to(device)
        candidates = torch.cat([known, strangers[~torch.isin(strangers, known)]])
        directions = functional.normalize(embedding[candidates], dim=-1)
        cosines = functional.linear(functional.normalize(seen, dim=-1), directions).float()
    place = torch.searchsorted(known, target)
    scale = embedding.pow(2).mean()  # the embeddings are small; relative to them, 1 is far off
    wanted = torch.where(blank[:, None], torch.zeros_like(projected), embedding[tokens.clamp(min=0)])
    distance = (projected - wanted).pow(2).mean(-1) / scale
    return {
        "tokens": functional.cross_entropy(_SHARPNESS * cosines, place),
        "distance": distance[here].mean(),
        "blank": distance[blank].mean(),
        "shapes": _moved(projected, arrays, teacher),
        "accuracy": (cosines.argmax(-1) == place).float().mean().detach(),
    }


def _moved(projected: Tensor, arrays: running.Arrays, teacher: Teacher | None) -> Tensor:
    """How far shapes have moved from where the teacher sees them; 0 without shapes."""
    rows = np.flatnonzero(arrays["tokens"][:, 0] == AS_BEFORE)
    if teacher is None or not len(rows):
        return projected.new_zeros(())
    before = teacher.sees(arrays["images"][rows], projected.device)
    now = projected.view(*arrays["tokens"].shape, -1)[torch.from_numpy(rows)]
    moved: Tensor = (now - before).pow(2).mean() / (before - teacher.empty).pow(2).mean()
    return moved


def read_tokens(
    tower: Any,
    projector: Any,
    embedding: Tensor,
    draw: running.Draw,
    out: Path,
    budget: running.Budget,
    *,
    device: torch.device,
    init: Path | None = None,
    peak: float = 1e-3,
    **more: Any,
) -> list[dict[str, float]]:
    """Train tower and projector until the budget is used up; `FILES` appear in `out`.

    Args:
        tower: the vision tower in float32.
        projector: the VLM's multi-modal projector in float32.
        embedding: the language model's input embeddings, V × D.
        draw: draws batches of `places.token_batch`.
        out: folder for the files.
        budget: seconds or steps.
        device: where to train.
        init: folder with the tower of step 2, or with both files of a pocket that is to read more.
        peak: learning rate.
        more: for `running.train`.
    """
    if init is not None:
        running.load_part(tower, init / FILES[0])
        running.load_part(projector, init / FILES[1])
    teacher = Teacher(tower, projector, device)
    fixed = embedding.detach().float().to(device)
    parts = nn.ModuleDict({"tower": tower, "projector": projector}).to(device).train()
    return running.train(
        running.Learner([(learnable(parts), peak)], device),
        draw,
        lambda arrays: loss(tower, projector, fixed, arrays, device, teacher),
        {"accuracy": 0.0, "shapes": SHAPES_WEIGHT},
        budget,
        out,
        save=running.saving({"tower": tower, "projector": projector}, FILES, out),
        **more,
    )


def _chance(arrays: running.Arrays) -> torch.Generator:
    """A generator that follows from the batch, so that a resumed step meets the same strangers."""
    return torch.Generator().manual_seed(int(arrays["tokens"].sum()) % 2**31)
