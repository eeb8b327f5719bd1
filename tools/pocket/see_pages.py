"""Step 4: the tower learns to see any page as it sees the plain page that says the same (`renditions`).

The teacher is the pocket as it is when the step begins, frozen. It reads plain letters well, and its language model
knows what to do with what it sees there; so what the student gains, the language model can use at once. No language
model takes part. Shapes become words by the way: the teacher looks at their names, the student at the shapes.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from tools.pocket import join, places, renditions, running, synthetic
from tools.pocket.pages import random_page
from tools.pocket.tower import Teacher, attending, autocast, features, learnable, pixel_values
from unsay.data import shape_scenes

SCENES = 0.35
"""Share of pictures of shapes."""

BLANK_WEIGHT = 0.25
"""Of patches without letters, which are three in four, against one of the others."""


def page_batch(
    texts: synthetic.Texts, rng: random.Random, batch: int, *, size: int = 224
) -> dict[str, np.ndarray[Any, Any]]:
    """`images` B × H × W × 3 uint8, and `plain`, the page that says the same as each."""
    images = np.zeros((batch, size, size, 3), np.uint8)
    plain = np.zeros_like(images)
    for number in range(batch):
        if rng.random() < SCENES:
            scene = shape_scenes.random_scene(rng)
            images[number] = np.asarray(shape_scenes.render_scene(scene, size=size))
            plain[number] = renditions.labelled(scene, size)
        else:
            text = places.text_to_place(texts, rng)
            page = random_page(text, rng, size=size)
            images[number] = page.pixels
            plain[number] = renditions.plain_page(text, page)
    return {"images": images, "plain": plain}


def inked(plain: Tensor, patch: int) -> Tensor:
    """Which patches of plain pages, B × H × W × 3, hold a part of a letter: B × P."""
    dark = (plain.amin(-1) < 128).float()
    return torch.nn.functional.max_pool2d(dark[:, None], patch).flatten(1) > 0


def loss(
    tower: Any, projector: Any, teacher: Teacher, arrays: running.Arrays, device: torch.device
) -> dict[str, Tensor]:
    """Squared distance to the teacher, as a share of what letters add to an empty page: `letters` and `blank` patches.

    `letters` is 1 for a student that sees nothing, 0 for one that sees as the teacher does.
    """
    wanted = teacher.sees(arrays["plain"], device)
    with autocast(device), attending():
        seen = projector(features(tower, pixel_values(arrays["images"], device)))
    here = inked(torch.from_numpy(arrays["plain"]).to(device), tower.config.patch_size)
    scale = (wanted - teacher.empty).pow(2).mean(-1)[here].mean()
    distance = (seen.float() - wanted).pow(2).mean(-1) / scale
    return {"letters": distance[here].mean(), "blank": distance[~here].mean()}


def see_pages(
    tower: Any,
    projector: Any,
    draw: running.Draw,
    out: Path,
    budget: running.Budget,
    *,
    device: torch.device,
    init: Path,
    peak: float = 3e-4,
    **more: Any,
) -> list[dict[str, float]]:
    """Train tower and projector until the budget is used up; `join.FILES` appear in `out`.

    Args:
        tower: the vision tower in float32.
        projector: the VLM's multi-modal projector in float32.
        draw: draws batches of `page_batch`.
        out: folder for the files.
        budget: seconds or steps.
        device: where to train.
        init: folder with the teacher, after step 3 or a whole pocket; the student begins as its copy.
        peak: learning rate.
        more: for `running.train`.
    """
    for part, name in zip((tower, projector), join.FILES, strict=False):
        running.load_part(part, init / name)
    running.hand_on(join.FILES[2:], init, out)
    teacher = Teacher(tower, projector, device)
    parts = nn.ModuleDict({"tower": tower, "projector": projector}).to(device).train()
    return running.train(
        running.Learner([(learnable(parts), peak)], device),
        draw,
        lambda arrays: loss(tower, projector, teacher, arrays, device),
        {"blank": BLANK_WEIGHT},
        budget,
        out,
        save=running.saving({"tower": tower, "projector": projector}, join.FILES[:2], out),
        **more,
    )
