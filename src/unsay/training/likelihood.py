"""Likelihood of reference answers and of the choices of multiple-choice questions: utility without generation."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from unsay.methods.base import Needs, RoleView
from unsay.models.vlm import VLM
from unsay.records import Example, Prompt, Role
from unsay.training.encode import Encoded, collate, encode
from unsay.training.head import role_views
from unsay.training.settings import TrainSettings

BATCH = 16
LONGEST = 4096
"""Tokens of a prompt or an answer if the model's configuration sets no limit."""
LIKELIHOOD = Needs(roles=frozenset({Role.RETAIN}))

Progress = Callable[[int, int], None]
"""Called with (done, all)."""


def answer_losses(vlm: VLM, prompts: Sequence[Prompt], progress: Progress | None = None) -> tuple[list[float], int]:
    """Mean negative log-probability per token of each prompt's reference answer, in nats.

    Returns:
        One loss per prompt, in order, and the number of tokens that passed the model.
    """
    rows = [_encoded(vlm, p, p.id, p.reference or "", TrainSettings().max_answer_tokens) for p in prompts]
    losses, tokens = row_losses(vlm, rows, progress)
    return [losses[prompt.id] for prompt in prompts], tokens


def row_losses(vlm: VLM, rows: Sequence[Encoded], progress: Progress | None = None) -> tuple[dict[str, float], int]:
    """Mean negative log-probability per scored token of each retain row, by its id, in nats; and the tokens read."""
    return _by_id(vlm, rows, lambda view: view.cross_entropy(), progress)


def choice_scores(
    vlm: VLM, prompts: Sequence[Prompt], progress: Progress | None = None
) -> tuple[list[list[float]], int]:
    """Log-probability of every choice after its prompt, in nats, summed over its tokens; no end token is counted.

    Returns:
        For each prompt its choices' scores, in order; and the number of tokens that passed the model.
    """
    longest = vlm.context or LONGEST
    rows = [
        _encoded(vlm, prompt, f"{number}/{place}", choice, longest, complete=False)
        for number, prompt in enumerate(prompts)
        for place, choice in enumerate(prompt.choices)
    ]
    scores, tokens = _by_id(vlm, rows, lambda view: view.total(view.policy), progress)
    by_prompt = [
        [scores[f"{number}/{place}"] for place in range(len(prompt.choices))] for number, prompt in enumerate(prompts)
    ]
    return by_prompt, tokens


def _encoded(vlm: VLM, prompt: Prompt, id_: str, answer: str, longest: int, *, complete: bool = True) -> Encoded:
    """A prompt with an answer; an incomplete one has no end token to be scored."""
    example = Example(
        id=id_, role=Role.RETAIN, prompt=prompt.prompt, answer=answer, source=prompt.suite, complete=complete
    )
    return encode(vlm, example, max_prompt_tokens=vlm.context or LONGEST, max_answer_tokens=longest)


@torch.no_grad()
def _by_id(
    vlm: VLM, rows: Sequence[Encoded], value: Callable[[RoleView], Tensor], progress: Progress | None
) -> tuple[dict[str, float], int]:
    """A value of every row by its id, and the tokens that passed the model."""
    values: dict[str, float] = {}
    tokens = 0
    ordered = sorted(rows, key=lambda row: row.length)
    for start in range(0, len(ordered), BATCH):
        part = ordered[start : start + BATCH]
        batch = collate(part).to(vlm.device)
        view = role_views(vlm, batch, LIKELIHOOD, TrainSettings().head_chunk)[Role.RETAIN]
        values.update(zip((row.id for row in part), value(view).tolist(), strict=True))
        tokens += batch.tokens
        if progress is not None:
            progress(len(values), len(ordered))
    return values, tokens
