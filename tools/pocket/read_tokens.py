"""Step 3: tower and projector learn to put each token's input embedding at the patch where the token stands.

Without this the language model has to find out by itself that the image's tokens are text; with it, a page of pixels
reaches it nearly as the words would have.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from tools.pocket import running
from tools.pocket.conversations import chunked, normalise
from tools.pocket.read_characters import features

FILES = ("vision_tower.safetensors", "projector.safetensors")

_SHARPNESS = 20.0  # cosines lie in -1..1; this makes logits of them that can tell 49,152 tokens apart


def loss(
    tower: Any, projector: Any, embedding: Tensor, arrays: running.Arrays, device: torch.device
) -> dict[str, Tensor]:
    """Cosine cross-entropy over the vocabulary, and distance to the embedding (to zero at blank patches).

    Args:
        tower: the vision tower.
        projector: maps its features to the language model's width.
        embedding: V × D, the language model's input embeddings, frozen.
        arrays: from `places.token_batch`.
        device: where all of that is.
    """
    projected = projector(features(tower, normalise(torch.from_numpy(arrays["images"]).to(device)))).flatten(0, 1)
    tokens = torch.from_numpy(arrays["tokens"]).to(device).flatten()
    blank = tokens < 0
    seen, target = projected[~blank], tokens[~blank]
    directions = functional.normalize(embedding, dim=-1)
    scale = embedding.float().pow(2).mean()  # the embeddings are small; relative to them, 1 is far off
    wanted = torch.where(blank[:, None], torch.zeros_like(projected), embedding[tokens.clamp(min=0)])
    distance = (projected.float() - wanted.float()).pow(2).mean(-1) / scale
    return {
        "tokens": chunked(_cosine_cross_entropy, seen, target, directions).mean(),
        "distance": distance[~blank].mean(),
        "blank": distance[blank].mean(),
        "accuracy": _accuracy(seen, target, directions),
    }


def read_tokens(
    tower: Any,
    projector: Any,
    embedding: Tensor,
    stream: Iterator[running.Arrays],
    out: Path,
    budget: running.Budget,
    *,
    device: torch.device,
    init: Path | None = None,
    rate: float = 1e-3,
    every: int = 50,
) -> list[dict[str, float]]:
    """Train tower and projector until the budget is used up; `FILES` appear in `out`.

    Args:
        tower: a SigLIP vision tower in float32.
        projector: the VLM's multi-modal projector in float32.
        embedding: the language model's input embeddings, V × D.
        stream: batches of `places.token_batch`.
        out: folder for the files.
        budget: seconds or steps.
        device: where to train.
        init: folder with the tower of step 2 (or of an earlier run of this one).
        rate: peak learning rate.
        every: steps between printed lines.
    """
    if init is not None:
        running.load_part(tower, init / FILES[0])
        running.load_part(projector, init / FILES[1])
    fixed = embedding.detach().to(device)
    parameters = []
    for module in (tower, projector):
        module.to(device).train().requires_grad_(True)
        parameters += list(module.parameters())
    tower.post_layernorm.requires_grad_(False)  # not on the way to `features`
    parameters = [parameter for parameter in parameters if parameter.requires_grad]

    def save() -> None:
        running.save_half(tower.state_dict(), out / FILES[0])
        running.save_half(projector.state_dict(), out / FILES[1])

    return running.train(
        stream,
        lambda arrays: loss(tower, projector, fixed, arrays, device),
        {"accuracy": 0.0},
        running.optimiser([(parameters, rate)], device),
        budget,
        device=device,
        save=save,
        every=every,
    )


def _cosine_cross_entropy(seen: Tensor, target: Tensor, directions: Tensor) -> Tensor:
    cosines = functional.linear(functional.normalize(seen, dim=-1), directions)
    return functional.cross_entropy(_SHARPNESS * cosines.float(), target, reduction="none")


@torch.no_grad()
def _accuracy(seen: Tensor, target: Tensor, directions: Tensor) -> Tensor:
    some = slice(0, 1024)  # enough to watch
    guess = functional.linear(functional.normalize(seen[some], dim=-1), directions).argmax(-1)
    return (guess == target[some]).float().mean()
