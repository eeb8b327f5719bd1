"""Table 2: text-only against multimodal training at equal examples, by image tokens per image."""

from typing import Any

import torch
from machine import timed
from recipes import plan

from data import SETTINGS, examples
from unsay.models import attach, detach
from unsay.models.vlm import VLM
from unsay.training.encode import Encoded

IMAGE_TOKENS = (64, 196, 576, 2880)
"""Of: small resamplers, the pocket VLM, LLaVA-1.5, LLaVA-NeXT."""


def table(vlm: VLM, device: str, runs: int, image_tokens: tuple[int, ...] = IMAGE_TOKENS) -> list[dict[str, Any]]:
    """Seconds of one step on three examples, and how many times the text-only step's.

    The picture's place in the prompt is filled with as many embeddings, and the vision tower reads as many patches, in
    tiles of its own size; examples go one by one, so that 2,880 tokens fit a small machine. Both sides do the same.
    """
    adapted = attach(vlm, SETTINGS.lora, 0)
    try:
        batch = plan(vlm, examples(), SETTINGS)[0]
        rows = [next(row for row in batch if row.role is role) for role in dict.fromkeys(row.role for row in batch)]
        text = timed(lambda: _step(adapted, rows, 0), device, warm=1, runs=runs)
        made = [{"image_tokens": 0, "seconds": text, "times": 1.0}]
        for count in image_tokens:
            seconds = timed(lambda count=count: _step(adapted, rows, count), device, warm=1, runs=runs)
            made.append({"image_tokens": count, "seconds": seconds, "times": seconds / text})
        return made
    finally:
        detach(adapted)


def _step(vlm: VLM, rows: list[Encoded], image_tokens: int) -> None:
    """Forward and backward of cross-entropy on each example's answer; no optimiser, which costs both sides the same."""
    for row in rows:
        ids = torch.tensor([[*row.prompt_ids, *row.answer_ids]], device=vlm.device)
        embedded = vlm.base.get_input_embeddings()(ids)
        if image_tokens:
            seen = _seen(vlm, image_tokens, embedded)
            embedded = torch.cat([embedded[:, :1], seen, embedded[:, 1:]], dim=1)
        hidden = vlm.decoder(inputs_embeds=embedded, use_cache=False).last_hidden_state[
            0, -len(row.answer_ids) - 1 : -1
        ]
        answer = torch.tensor(row.answer_ids, device=vlm.device)
        torch.nn.functional.cross_entropy(vlm.lm_head(hidden).float(), answer).backward()
    for parameter in vlm.model.parameters():
        parameter.grad = None


@torch.no_grad()
def _seen(vlm: VLM, image_tokens: int, like: torch.Tensor) -> torch.Tensor:
    """`image_tokens` embeddings, [1, n, H], after the vision tower has read that many patches."""
    vision = vlm.base.config.vision_config
    tower = next(module for name, module in vlm.base.named_modules() if name.endswith(("vision_tower", "vision_model")))
    per_tile = (vision.image_size // vision.patch_size) ** 2
    for _ in range(max(1, round(image_tokens / per_tile))):
        tower(torch.zeros(1, 3, vision.image_size, vision.image_size, device=like.device, dtype=like.dtype))
    return torch.randn(1, image_tokens, like.shape[-1], device=like.device, dtype=like.dtype) * like.std()
