"""How likely a model finds each choice of a multiple-choice question."""

from collections.abc import Callable, Sequence

import torch

from unsay.models.vlm import VLM
from unsay.records import Example, Prompt, Role
from unsay.training.encoding import collate, encode
from unsay.training.likelihood import BATCH, LIKELIHOOD, LONGEST
from unsay.training.logprobs import role_views
from unsay.training.settings import TrainSettings


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
