"""Likelihood of given answers and of the choices of a multiple-choice question.

How likely a model finds given answers: text utility without generating anything.

How likely a model finds each choice of a multiple-choice question.
"""

from collections.abc import Callable, Sequence

import torch

from unsay.methods.base import Needs
from unsay.models.vlm import VLM
from unsay.records import Example, Prompt, Role
from unsay.training.encode import collate, encode
from unsay.training.head import role_views
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


@torch.no_grad()
def choice_scores(
    vlm: VLM, prompts: Sequence[Prompt], progress: Callable[[int, int], None] | None = None
) -> tuple[list[list[float]], int]:
    """Log-probability of every choice after its prompt, in nats, summed over its tokens; no end token is counted.

    Args:
        vlm: the model as it is, adapter included.
        prompts: text prompts with choices.
        progress: called with (choices done, all).

    Returns:
        For each prompt its choices' scores, in order; and the number of tokens that passed the model.
    """
    settings = TrainSettings()
    longest = vlm.context or LONGEST
    encoded = [
        encode(
            vlm,
            # Incomplete, so that no end token is scored: a choice is compared by its own words.
            Example(
                id=f"{number}/{place}",
                role=Role.RETAIN,
                prompt=prompt.prompt,
                answer=choice,
                source=prompt.suite,
                complete=False,
            ),
            max_prompt_tokens=longest,
            max_answer_tokens=longest,
        )
        for number, prompt in enumerate(prompts)
        for place, choice in enumerate(prompt.choices)
    ]
    scores: dict[str, float] = {}
    tokens = 0
    ordered = sorted(encoded, key=lambda row: row.length)
    for start in range(0, len(ordered), BATCH):
        rows = ordered[start : start + BATCH]
        batch = collate(rows).to(vlm.device)
        view = role_views(vlm, batch, LIKELIHOOD, settings.head_chunk)[Role.RETAIN]
        sums = (view.policy * view.mask).sum(dim=1).tolist()
        scores.update(zip((row.id for row in rows), sums, strict=True))
        tokens += batch.tokens
        if progress is not None:
            progress(len(scores), len(ordered))
    by_prompt = [
        [scores[f"{number}/{place}"] for place in range(len(prompt.choices))] for number, prompt in enumerate(prompts)
    ]
    return by_prompt, tokens
