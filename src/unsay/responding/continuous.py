"""Greedy answers to text by transformers' continuous batching, for families that `greedy` does not take.

A row that has ended makes room for the next one at once, rows stand packed without padding, and where all attention is
full, what they begin with in common is kept once. Sliding windows have their own pages of keys and values. Only token
ids go in, so pictures are left to `generate`. It is tried once per model, for not every family's attention survives it:
PaliGemma looks both ways within a prompt, which no page tells.
"""

import logging
import queue
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import GenerationConfig
from transformers.generation.configuration_utils import ContinuousBatchingConfig

from unsay.models.vlm import VLM
from unsay.responding.asked import Asked, model_inputs
from unsay.responding.settings import GenerationSettings

PAGE = 32
"""Tokens of one page of keys and values: questions are short, and a page that is not full is wasted."""

MOST_AT_ONCE = 2_048
"""Tokens of one pass at most: without flash attention its mask is as large as these times all that is kept."""

TRIAL = 4
"""Tokens of the answers by which a model is tried."""

Answer = tuple[Asked, list[int]]


def continuous(vlm: VLM, rows: Sequence[Asked], settings: GenerationSettings) -> Iterator[list[Answer]]:
    """Each row with the token ids of its answer, its end token included; yields what has ended since the last time.

    A row that failed is left out. So are the others when the whole thing breaks down (out of memory): the caller asks
    them in batches, and meets the error there.

    Args:
        vlm: a model that `flows`.
        rows: all without a picture.
        settings: greedy.
    """
    with _manager(vlm, rows, settings.max_new_tokens, settings.batch_tokens) as manager:
        asked = dict(zip(manager.add_requests([list(row.ids) for row in rows]), rows, strict=True))
        manager.start()
        while asked:
            ended = _ended(manager)
            if not ended:
                return
            done = [(asked.pop(one.request_id), list(one.generated_tokens), one.error) for one in ended]
            answers = [(row, answer) for row, answer, error in done if error is None]
            if answers:
                yield answers


def _ended(manager: Any) -> list[Any]:
    """What has ended, one at least; empty if nothing more will come."""
    while True:
        first = manager.get_result(timeout=1)
        if first is not None:
            break
        if not manager.is_running():
            first = manager.get_result(timeout=0)
            if first is None:
                return []
            break
    ended = [first]
    waiting: queue.Queue[Any] = manager.output_router.output_queue
    while not waiting.empty():
        ended.append(waiting.get())
    return ended


@contextmanager
def _manager(vlm: VLM, rows: Sequence[Asked], longest: int, room: int, **more: Any) -> Iterator[Any]:
    """The library's manager, not started: what is added before its start does not depend on the clock."""
    room = max(room, max(len(row.ids) for row in rows) + longest)
    wanted = GenerationConfig.from_dict(vlm.base.generation_config.to_dict())
    wanted.update(
        do_sample=False,
        max_new_tokens=longest,
        eos_token_id=sorted(vlm.end_tokens),
        pad_token_id=vlm.tokenizer.pad_token_id,
    )
    with torch.no_grad():
        manager = vlm.base.init_continuous_batching(
            generation_config=wanted,
            continuous_batching_config=ContinuousBatchingConfig(
                page_size=PAGE,
                num_blocks=-(-room // PAGE) + 1,
                max_batch_tokens=min(room, MOST_AT_ONCE),
                auto_switch_to_flash=False,  # attention is the user's choice
                drop_unsupported_processors=False,  # a penalty that is not kept to would be another model
                **more,
            ),
        )
    try:
        yield manager
    finally:
        manager.stop(block=True, hard_stop=True)
        manager.destroy()


def pays(vlm: VLM) -> bool:
    """Not on a CPU: there it takes 1.6 times as long as batches of `generate` do (docs/results/performance.md)."""
    return vlm.device.type != "cpu"


_FLOWS: "WeakKeyDictionary[Any, bool]" = WeakKeyDictionary()


def flows(vlm: VLM, rows: Sequence[Asked]) -> bool:
    """Whether this model's answers can be made here; tried once per model, against its own `generate`.

    Args:
        vlm: the model.
        rows: all without a picture; the longest and the shortest are tried.
    """
    if vlm.base not in _FLOWS:
        by_length = sorted(rows, key=lambda row: len(row.ids))
        _FLOWS[vlm.base] = _agrees(vlm, [by_length[0], by_length[-1]])
    return _FLOWS[vlm.base]


def _agrees(vlm: VLM, rows: Sequence[Asked]) -> bool:
    """Whether both ways find the same tokens as likely, up to where they say different ones."""
    try:
        with _silence(), _manager(vlm, rows, TRIAL, 0, return_logprobs=True) as manager:
            names = manager.add_requests([list(row.ids) for row in rows])
            manager.start()
            found: dict[str, Any] = {}
            while len(found) < len(rows) and (ended := _ended(manager)):
                found.update((one.request_id, one) for one in ended)
        exact = vlm.base.dtype == torch.float32
        return all(_close(found[name], _generated(vlm, row), exact) for name, row in zip(names, rows, strict=True))
    except (AttributeError, KeyError, IndexError, TypeError, ValueError, RuntimeError, NotImplementedError):
        return False


@contextmanager
def _silence() -> Iterator[None]:
    """Keeps the library from reporting a trial that fails: nobody has to do anything about it."""
    logger = logging.getLogger("ContinuousBatchingLogger")
    disabled, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = disabled


@torch.inference_mode()
def _generated(vlm: VLM, row: Asked) -> list[Tensor]:
    """Log-probabilities [V] of each token of the answer that `generate` gives."""
    output = vlm.base.generate(
        **model_inputs(vlm, [row]).to(vlm.device),
        do_sample=False,
        max_new_tokens=TRIAL,
        eos_token_id=sorted(vlm.end_tokens),
        pad_token_id=vlm.tokenizer.pad_token_id,
        output_scores=True,
        return_dict_in_generate=True,
    )
    return [scores[0].float().log_softmax(dim=-1) for scores in output.scores]


def _close(found: Any, expected: Sequence[Tensor], exact: bool) -> bool:
    tolerance = 1e-3 if exact else 5e-2
    if found.error is not None or not found.generated_tokens:
        return False
    for token, said, row in zip(found.generated_tokens, found.logprobs, expected, strict=False):
        if abs(said - row[token].item()) > tolerance:
            return False
        if token != int(row.argmax()):
            break  # as likely, and from here on another answer
    return True
