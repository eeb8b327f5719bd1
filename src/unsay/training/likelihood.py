"""How likely a model finds given answers: text utility without generating anything."""

from collections.abc import Callable, Sequence

import torch

from unsay.methods.base import Needs
from unsay.models.vlm import VLM
from unsay.records import Example, Prompt, Role
from unsay.training.encoding import collate, encode
from unsay.training.logprobs import role_views
from unsay.training.settings import TrainSettings

BATCH = 16
LONGEST = 4096
"""Tokens of a prompt or an answer where the model does not say how many it reads."""
LIKELIHOOD = Needs(roles=frozenset({Role.RETAIN}))


@torch.no_grad()
def answer_losses(
    vlm: VLM, prompts: Sequence[Prompt], progress: Callable[[int, int], None] | None = None
) -> tuple[list[float], int]:
    """Mean negative log-probability per token of each prompt's reference answer, in nats.

    Args:
        vlm: the model as it is, adapter included.
        prompts: text prompts with a reference.
        progress: called with (done, all).

    Returns:
        One loss per prompt, in order, and the number of tokens that passed the model.
    """
    settings = TrainSettings()
    longest = vlm.context or LONGEST
    encoded = [
        encode(
            vlm,
            Example(id=p.id, role=Role.RETAIN, prompt=p.prompt, answer=p.reference or "", source=p.suite),
            max_prompt_tokens=longest,
            max_answer_tokens=settings.max_answer_tokens,
        )
        for p in prompts
    ]
    losses: dict[str, float] = {}
    tokens = 0
    order = sorted(encoded, key=lambda row: row.length)
    for start in range(0, len(order), BATCH):
        rows = order[start : start + BATCH]
        batch = collate(rows).to(vlm.device)
        view = role_views(vlm, batch, LIKELIHOOD, settings.head_chunk)[Role.RETAIN]
        losses.update(zip((row.id for row in rows), view.cross_entropy().tolist(), strict=True))
        tokens += batch.tokens
        if progress is not None:
            progress(len(losses), len(order))
    return [losses[prompt.id] for prompt in prompts], tokens
