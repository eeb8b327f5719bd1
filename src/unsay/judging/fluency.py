"""Is an answer language at all? A frozen language model's surprise at it tells word salad from sentences.

Models that were pushed too far do not only loop: they also emit unrelated words and word fragments, which no rule on
repetition sees. To a language model these cost several nats a token more than any sentence, list or program does; how
much more is measured in `docs/judges.md`.
"""

import re
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from unsay.judging.hidden import chat_frame

MOST_SURPRISE: Final = 7.0
"""Nats a token; above it an answer is word salad."""

FEWEST_WORDS: Final = 8
"""Shorter answers are not measured: a rare name alone is a surprise."""

TOKENS: Final = 40
"""Only the first so many tokens are read."""

_WORD = re.compile(r"[^\W\d_]+")
_BATCH = 8


def measurable(text: str) -> bool:
    """Whether surprise says something about this answer: enough words, in the letters that the reader knows best."""
    words = _WORD.findall(text)
    letters = "".join(words)
    return len(words) >= FEWEST_WORDS and sum(letter.isascii() for letter in letters) > 0.8 * len(letters)


def surprises(language_model: Any, tokenizer: Any, texts: Sequence[str]) -> NDArray[np.float64]:
    """Mean negative log-likelihood of each answer's tokens, in nats, given only that an answer begins; shape (texts,).

    Args:
        language_model: the frozen reader.
        tokenizer: its tokenizer, with a chat template.
        texts: answers of at least one token each.
    """
    _, closing = chat_frame(tokenizer)
    answers = [list(tokenizer(text, add_special_tokens=False)["input_ids"])[:TOKENS] for text in texts]
    order = sorted(range(len(texts)), key=lambda index: len(answers[index]))
    values = np.zeros(len(texts))
    for start in range(0, len(order), _BATCH):
        batch = order[start : start + _BATCH]
        values[batch] = _mean_surprise(language_model, closing, [answers[index] for index in batch])
    return values


@torch.inference_mode()
def _mean_surprise(language_model: Any, opening: list[int], answers: list[list[int]]) -> NDArray[np.float64]:
    device = next(language_model.parameters()).device
    longest = max(map(len, answers))
    answered = torch.tensor([answer + [0] * (longest - len(answer)) for answer in answers], device=device)
    mask = torch.tensor([[1] * len(answer) + [0] * (longest - len(answer)) for answer in answers], device=device)
    asked = torch.tensor([opening] * len(answers), device=device)
    logits = language_model(
        input_ids=torch.cat([asked, answered], dim=1),
        attention_mask=torch.cat([torch.ones_like(asked), mask], dim=1),
        use_cache=False,
        logits_to_keep=longest + 1,
    ).logits[:, :-1]
    losses = torch.nn.functional.cross_entropy(logits.float().transpose(1, 2), answered, reduction="none")
    mean = (losses * mask).sum(1) / mask.sum(1)
    return np.asarray(mean.double().cpu().numpy(), dtype=np.float64)
