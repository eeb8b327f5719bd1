"""Step 2: the tower learns which characters stand in each patch, by way of a linear head that is thrown away."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from tools.pocket import running
from tools.pocket.places import CLASSES, SLOTS
from tools.pocket.tower import attending, autocast, features, learnable, pixel_values

FILES = ("vision_tower.safetensors", "characters_head.safetensors")

_BLANK_WEIGHT = 0.1  # nine slots in ten are empty; without this the tower first learns to see nothing


class Reader(nn.Module):
    """Tower and linear head: pixels → logits of `SLOTS` characters per patch."""

    def __init__(self, tower: Any) -> None:
        super().__init__()
        self.tower = tower
        self.head = nn.Linear(tower.config.hidden_size, SLOTS * CLASSES)

    def forward(self, pixels: Tensor) -> Tensor:
        """B × 3 × H × W → B × P × `SLOTS` × `CLASSES`."""
        logits: Tensor = self.head(features(self.tower, pixels))
        return logits.view(*logits.shape[:-1], SLOTS, CLASSES)


def loss(reader: Reader, arrays: running.Arrays, device: torch.device) -> dict[str, Tensor]:
    """Cross-entropy over slots, empty ones counting a tenth, and the accuracy on those that are not empty."""
    with autocast(device), attending():
        logits = reader(pixel_values(arrays["images"], device)).flatten(0, 2)
    target = torch.from_numpy(arrays["characters"]).to(device).flatten()
    weight = torch.ones(CLASSES, device=device)
    weight[0] = _BLANK_WEIGHT
    filled = target > 0
    right = (logits.argmax(-1) == target) & filled
    return {
        "characters": functional.cross_entropy(logits.float(), target, weight=weight),
        "accuracy": (right.sum() / filled.sum().clamp(min=1)).detach(),
    }


def read_characters(
    tower: Any,
    draw: running.Draw,
    out: Path,
    budget: running.Budget,
    *,
    device: torch.device,
    init: Path | None = None,
    peak: float = 1e-3,
    **more: Any,
) -> list[dict[str, float]]:
    """Train the tower until the budget is used up; `FILES` appear in `out`.

    Args:
        tower: a SigLIP vision tower in float32.
        draw: draws batches of `places.character_batch`.
        out: folder for the files.
        budget: seconds or steps.
        device: where to train.
        init: folder of an earlier run of this step, to begin with.
        peak: learning rate.
        more: for `running.train`.
    """
    reader = Reader(tower)
    if init is not None:
        running.load_part(reader.tower, init / FILES[0])
        running.load_part(reader.head, init / FILES[1])
    reader.to(device).train()
    return running.train(
        running.Learner([(learnable(reader), peak)], device),
        draw,
        lambda arrays: loss(reader, arrays, device),
        {"accuracy": 0.0},
        budget,
        out,
        save=running.saving({"tower": reader.tower, "head": reader.head}, FILES, out),
        **more,
    )
