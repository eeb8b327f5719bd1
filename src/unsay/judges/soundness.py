"""Finds broken answers: the first step of every judge.

Rules on the text come first (`degeneration`). A small frozen language model reads what they let pass, because a model
that was pushed too far does not only loop. Two numbers, in nats per token over an answer's first tokens, decide:

    surprisal = -mean log p(answer)
    gain      =  mean log p(answer | request) - mean log p(answer)

Word salad has a surprisal several nats above that of any sentence, list or program. The gain is the pointwise mutual
information of request and answer: the request makes an answer to it likelier, and sentences about something else less
likely. `docs/judges.md` has the measurements behind both limits; only clear cases are called broken.
"""

import re
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray

from unsay.assets import ASSETS
from unsay.files import content_key
from unsay.judges import degeneration, refusal
from unsay.judges.base import Pair
from unsay.records import Label, Modality, Prompt, Verdict

VERSION: Final = 1
"""Raise when an answer changes between sound and broken; it is in the key of every judge that has a reader."""

MAX_SURPRISAL: Final = 7.0
"""Nats per token; an answer above it is word salad."""
MIN_GAIN: Final = -0.2
"""Nats per token; an answer below it ignores the request."""

ANSWER_TOKENS: Final = 40
REQUEST_TOKENS: Final = 128
"""So many first tokens are read."""

MIN_ANSWER_WORDS: Final = 8
"""Shorter answers are not measured: a single rare name has a high surprisal."""
MIN_REQUEST_WORDS: Final = 4
"""Anything may answer a shorter request."""
STEM: Final = 4
"""Words are equal if their first letters are ("bread", "breads"); shorter words are ignored."""

BATCH: Final = 8

Reader: TypeAlias = tuple[Any, Any]
"""A frozen language model and its tokenizer, which has a chat template."""

_WORD = re.compile(r"[^\W\d_]+")
_PLACEHOLDER = "\u241e"
"""Stands for the request while the chat template is rendered; no request contains it."""


def original_reader() -> Reader:
    """The original SmolLM2-135M-Instruct, fetched at first use."""
    from unsay.models.pocket import original_language_model

    return original_language_model()


def chat_frame(tokenizer: Any) -> tuple[list[int], list[int]]:
    """Token ids before the request, and between request and answer, in the model's chat format."""
    chat = [{"role": "user", "content": _PLACEHOLDER}]
    before, after = tokenizer.apply_chat_template(chat, tokenize=False, add_generation_prompt=True).split(_PLACEHOLDER)
    return token_ids(tokenizer, before), token_ids(tokenizer, after)


def token_ids(tokenizer: Any, text: str, limit: int | None = None) -> list[int]:
    """The first `limit` token ids of a text, or all of them, without special tokens."""
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])[:limit]


def first_tokens(tokenizer: Any, text: str, count: int) -> str:
    """The text of the first `count` tokens."""
    ids = token_ids(tokenizer, text)
    return text if len(ids) <= count else str(tokenizer.decode(ids[:count], skip_special_tokens=True))


class Soundness:
    """Finds broken answers by rules and, if it has a reader, by their surprisal and gain."""

    def __init__(self, reader: Callable[[], Reader] | None = original_reader, reader_key: str | None = None) -> None:
        """Nothing is loaded before the first answer that needs it.

        Args:
            reader: gives the frozen model; None for rules alone.
            reader_key: identifies its weights; None for the pinned original's.
        """
        self.reader = reader
        self.key = content_key("degeneration", degeneration.VERSION)
        if reader is not None:
            weights = reader_key or [item.sha256 for item in ASSETS["smollm2"].members]
            self.key = content_key(self.key, weights, refusal.VERSION, VERSION)

    def reasons(self, pairs: Sequence[Pair]) -> list[str | None]:
        """For each answer why it is broken, in a few words, or None."""
        reasons = [degeneration.degeneration_reason(response.response, prompt.request) for prompt, response in pairs]
        if self.reader is None:
            return reasons
        rows = [
            row
            for row, reason in enumerate(reasons)
            if reason is None and can_measure_surprisal(pairs[row][1].response)
        ]
        alone = dict(zip(rows, self._surprisals([pairs[row] for row in rows]), strict=True))
        for row, value in alone.items():
            if value > MAX_SURPRISAL:
                reasons[row] = f"word salad: {value:.1f} nats a token"
        rows = [row for row in rows if reasons[row] is None and can_measure_gain(pairs[row][0], pairs[row][1].response)]
        for row, value in zip(rows, self._surprisals([pairs[row] for row in rows], with_request=True), strict=True):
            if alone[row] - value < MIN_GAIN:
                loss = value - alone[row]
                reasons[row] = f"unrelated: the request makes it less likely, by {loss:.2f} nats a token"
        return reasons

    def verdicts(self, judge: str, pairs: Sequence[Pair]) -> list[Verdict | None]:
        """`degenerate`, signed by `judge`, for each broken answer; None for the others."""
        return [
            None if reason is None else Verdict(id=response.id, judge=judge, label=Label.DEGENERATE, rationale=reason)
            for (_, response), reason in zip(pairs, self.reasons(pairs), strict=True)
        ]

    def _surprisals(self, pairs: Sequence[Pair], *, with_request: bool = False) -> list[float]:
        if self.reader is None or not pairs:
            return []
        requests = [prompt.request for prompt, _ in pairs] if with_request else None
        return [float(value) for value in surprisals(*self.reader(), [row.response for _, row in pairs], requests)]


def can_measure_surprisal(answer: str) -> bool:
    """Whether an answer has enough words, in the letters that the reader knows best."""
    words = _WORD.findall(answer)
    letters = "".join(words)
    return len(words) >= MIN_ANSWER_WORDS and sum(letter.isascii() for letter in letters) > 0.8 * len(letters)


def can_measure_gain(prompt: Prompt, answer: str) -> bool:
    """Whether the gain says anything about this answer.

    It does not where a picture or an earlier turn may be what the answer is about, nor of refusals, which fit any
    request. An answer with a word of the request is about it, so nothing needs to be measured.
    """
    if prompt.modality is Modality.IMAGE or prompt.turns or len(_WORD.findall(prompt.request)) < MIN_REQUEST_WORDS:
        return False
    shared = _content_stems(prompt.request) & _content_stems(answer)
    return not shared and refusal.refusal_reason(answer) is None


def _content_stems(text: str) -> set[str]:
    words = (word.lower() for word in _WORD.findall(text))
    return {word[:STEM] for word in words if len(word) >= STEM and word not in degeneration.WORDS["English"]}


def surprisals(
    language_model: Any, tokenizer: Any, answers: Sequence[str], requests: Sequence[str] | None = None
) -> NDArray[np.float64]:
    """Mean negative log-likelihood of each answer's first tokens, in nats; shape (answers,).

    Args:
        language_model: the frozen reader.
        tokenizer: its tokenizer, with a chat template.
        answers: of at least one token each.
        requests: one per answer; None where the reader only sees that an answer begins.
    """
    opening, closing = chat_frame(tokenizer)
    scored = [token_ids(tokenizer, answer, ANSWER_TOKENS) for answer in answers]
    contexts = [closing for _ in answers]
    if requests is not None:
        contexts = [opening + token_ids(tokenizer, request, REQUEST_TOKENS) + closing for request in requests]
    order = sorted(range(len(answers)), key=lambda index: len(contexts[index]) + len(scored[index]))
    values = np.zeros(len(answers))
    for start in range(0, len(order), BATCH):
        batch = order[start : start + BATCH]
        values[batch] = _batch_surprisals(
            language_model, [contexts[index] for index in batch], [scored[index] for index in batch]
        )
    return values


@torch.inference_mode()
def _batch_surprisals(language_model: Any, contexts: list[list[int]], answers: list[list[int]]) -> NDArray[np.float64]:
    device = next(language_model.parameters()).device
    before, after = max(map(len, contexts)), max(map(len, answers))
    # Contexts are padded on their left and answers on their right, so that all answers begin at one position and logits
    # are computed only from there. Padding is masked, so any valid id pads.
    pads = [(before - len(context), after - len(answer)) for context, answer in zip(contexts, answers, strict=True)]
    rows = list(zip(pads, contexts, answers, strict=True))
    ids = torch.tensor([[0] * left + context + answer + [0] * right for (left, right), context, answer in rows])
    mask = torch.tensor([[0] * left + [1] * (before + after - left - right) + [0] * right for left, right in pads])
    ids, mask = ids.to(device), mask.to(device)
    logits = language_model(
        input_ids=ids,
        attention_mask=mask,
        position_ids=(mask.cumsum(1) - 1).clamp_min(0),
        use_cache=False,
        logits_to_keep=after + 1,
    ).logits[:, :-1]
    losses = torch.nn.functional.cross_entropy(logits.float().transpose(1, 2), ids[:, before:], reduction="none")
    counted = mask[:, before:]
    mean = (losses * counted).sum(1) / counted.sum(1)
    return np.asarray(mean.double().cpu().numpy(), dtype=np.float64)
