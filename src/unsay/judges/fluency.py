"""Fluency and relatedness of an answer, by the likelihoods of a frozen language model.

Is an answer language at all? A frozen language model's surprise at it tells word salad from sentences.

Models that were pushed too far do not only loop: they also emit unrelated words and word fragments, which no rule on
repetition sees. To a language model these cost several nats a token more than any sentence, list or program does; how
much more is measured in `docs/judges.md`.

Is an answer about what was asked? How much likelier the request makes it, to a frozen language model.

    gain = mean log p(answer | request) - mean log p(answer | an answer begins)        nats a token, first tokens only

the pointwise mutual information of request and answer, per token. An answer to the question is likelier with it than
without; sentences about something else are *less* likely after a question that they ignore. How the two lie apart is
measured in `docs/judges.md`; only the clear cases are called unrelated.
"""

import re
from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from unsay.judges.degeneration import WORDS
from unsay.judges.probe_features import chat_frame
from unsay.records import Modality, Prompt

VERSION: Final = 1
"""Raise when what is called broken changes; it is in the key of every judge that reads with a language model."""

MOST_SURPRISE: Final = 7.0
"""Nats a token; above it an answer is word salad."""

FEWEST_ANSWER_WORDS: Final = 8
"""Shorter answers are not measured: a rare name alone is a surprise."""

TOKENS: Final = 40
"""Only the first so many tokens are read."""

REQUEST_TOKENS: Final = 128
"""And of a request."""

_WORD = re.compile(r"[^\W\d_]+")
_BATCH = 8


def fluency_measurable(text: str) -> bool:
    """Whether surprise says something about this answer: enough words, in the letters that the reader knows best."""
    words = _WORD.findall(text)
    letters = "".join(words)
    return len(words) >= FEWEST_ANSWER_WORDS and sum(letter.isascii() for letter in letters) > 0.8 * len(letters)


def surprises(
    language_model: Any, tokenizer: Any, texts: Sequence[str], requests: Sequence[str] | None = None
) -> NDArray[np.float64]:
    """Mean negative log-likelihood of each answer's first tokens, in nats; shape (texts,).

    Args:
        language_model: the frozen reader.
        tokenizer: its tokenizer, with a chat template.
        texts: answers of at least one token each.
        requests: what each answers; None where the reader is told only that an answer begins.
    """
    opening, closing = chat_frame(tokenizer)
    answers = [_ids(tokenizer, text, TOKENS) for text in texts]
    asked = [closing for _ in texts]
    if requests is not None:
        asked = [opening + _ids(tokenizer, request, REQUEST_TOKENS) + closing for request in requests]
    order = sorted(range(len(texts)), key=lambda index: len(asked[index]) + len(answers[index]))
    values = np.zeros(len(texts))
    for start in range(0, len(order), _BATCH):
        batch = order[start : start + _BATCH]
        values[batch] = _mean_surprise(
            language_model, [asked[index] for index in batch], [answers[index] for index in batch]
        )
    return values


def _ids(tokenizer: Any, text: str, most: int) -> list[int]:
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])[:most]


@torch.inference_mode()
def _mean_surprise(language_model: Any, asked: list[list[int]], answers: list[list[int]]) -> NDArray[np.float64]:
    device = next(language_model.parameters()).device
    before, after = max(map(len, asked)), max(map(len, answers))
    # What was asked is padded on its left and answers on their right, so that all answers begin at one place and
    # logits are computed only there. Padding is masked, so any valid id pads.
    ids = torch.tensor(
        [
            [0] * (before - len(start)) + start + answer + [0] * (after - len(answer))
            for start, answer in zip(asked, answers, strict=True)
        ],
        device=device,
    )
    mask = torch.tensor(
        [
            [0] * (before - len(start)) + [1] * (len(start) + len(answer)) + [0] * (after - len(answer))
            for start, answer in zip(asked, answers, strict=True)
        ],
        device=device,
    )
    logits = language_model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=(mask.cumsum(1) - 1).clamp_min(0),
        use_cache=False,
        logits_to_keep=after + 1,
    ).logits[:, :-1]
    losses = torch.nn.functional.cross_entropy(logits.float().transpose(1, 2), ids[:, before:], reduction="none")
    scored = mask[:, before:]
    mean = (losses * scored).sum(1) / scored.sum(1)
    return np.asarray(mean.double().cpu().numpy(), dtype=np.float64)


LEAST_GAIN: Final = -0.2
"""Nats a token; below it an answer ignores the request."""

FEWEST_REQUEST_WORDS: Final = 4
"""Shorter requests may be answered by anything."""

STEM: Final = 4
"""Words are the same by their first so many letters ("bread", "breads"); shorter words count nowhere."""

_REQUEST_WORD = re.compile(r"[^\W\d_]+")


def relatedness_measurable(prompt: Prompt, answer: str) -> bool:
    """Whether the gain would say something.

    Not where the request is not all that was asked: a picture or an earlier turn may be what the answer is about. And
    where the answer takes up a word of the request, nothing needs to be measured: it is about that.
    """
    words = _REQUEST_WORD.findall(prompt.request)
    if prompt.modality is Modality.IMAGE or prompt.turns or len(words) < FEWEST_REQUEST_WORDS:
        return False
    return not takes_up(prompt.request, answer)


def takes_up(request: str, answer: str) -> bool:
    """Whether an answer holds a word of the request that is no function word."""
    return bool(_stems(request) & _stems(answer))


def _stems(text: str) -> set[str]:
    words = (word.lower() for word in _REQUEST_WORD.findall(text))
    return {word[:STEM] for word in words if len(word) >= STEM and word not in WORDS["English"]}
