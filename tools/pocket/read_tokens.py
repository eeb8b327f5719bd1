"""Step 3: tower and projector learn to put each token's input embedding at the patch where the token stands.

Without this the language model has to find out by itself that the image's tokens are text; with it, a page of pixels
reaches it nearly as the words would have. No language model takes part, only its embeddings.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tools.pocket import running
from tools.pocket.tower import attending, autocast, features, learnable, pixel_values

FILES = ("vision_tower.safetensors", "projector.safetensors")

STRANGERS = 4096
"""Tokens, chosen anew in each step, among which those of the batch are to be told: a twelfth of the vocabulary."""

_SHARPNESS = 20.0  # cosines lie in -1..1; this makes logits of them that can tell 49,152 tokens apart


def loss(
    tower: Any, projector: Any, embedding: Tensor, arrays: running.Arrays, device: torch.device
) -> dict[str, Tensor]:
    """Cosine cross-entropy over the batch's tokens and `STRANGERS`, and distance to the embedding (to zero if blank).

    Args:
        tower: the vision tower.
        projector: maps its features to the language model's width.
        embedding: V × D, the language model's input embeddings, frozen.
        arrays: from `places.token_batch`.
        device: where all of that is.
    """
    with autocast(device), attending():
        projected = projector(features(tower, pixel_values(arrays["images"], device))).flatten(0, 1)
        tokens = torch.from_numpy(arrays["tokens"]).to(device).flatten()
        blank = tokens < 0
        projected = projected.float()
        seen, target = projected[~blank], tokens[~blank]
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
        "distance": distance[~blank].mean(),
        "blank": distance[blank].mean(),
        "accuracy": (cosines.argmax(-1) == place).float().mean().detach(),
    }


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
        init: folder with the tower of step 2 (or both files of an earlier run of this one).
        peak: learning rate.
        more: for `running.train`.
    """
    if init is not None:
        running.load_part(tower, init / FILES[0])
        running.load_part(projector, init / FILES[1])
    fixed = embedding.detach().float().to(device)
    parts = nn.ModuleDict({"tower": tower, "projector": projector}).to(device).train()
    return running.train(
        running.Learner([(learnable(parts), peak)], device),
        draw,
        lambda arrays: loss(tower, projector, fixed, arrays, device),
        {"accuracy": 0.0},
        budget,
        out,
        save=running.saving({"tower": tower, "projector": projector}, FILES, out),
        **more,
    )


def _chance(arrays: running.Arrays) -> torch.Generator:
    """A generator that follows from the batch, so that a resumed step meets the same strangers."""
    return torch.Generator().manual_seed(int(arrays["tokens"].sum()) % 2**31)
