"""Greedy answers to text by transformers' continuous batching, for families that `greedy` does not take.

A row that has ended makes room for the next one at once, rows stand packed without padding, and where all attention is
full, what they begin with in common is kept once. Sliding windows have their own pages of keys and values. Only token
ids go in, so pictures are left to `generate`. It is tried once per model, for not every family's attention survives it:
PaliGemma looks both ways within a prompt, which no page tells.
"""

import logging
import queue
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from inspect import signature
from math import lcm
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor
from transformers import GenerationConfig

from unsay.generation.prompts import Asked, model_inputs
from unsay.generation.settings import GenerationSettings
from unsay.models.memory import out_of_memory
from unsay.models.vlm import VLM

PAGE = 32
"""Tokens of one page of keys and values: questions are short, and a page that is not full is wasted."""

MOST_AT_ONCE = 2_048
"""Tokens of one pass at most: without flash attention its mask is as large as these times all that is kept."""

TRIED, TRIAL = 6, 4
"""Rows, and tokens of their answers, by which a model is tried."""

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
    with _silence(), _manager(vlm, rows, settings.max_new_tokens, settings.batch_tokens) as manager:
        asked = dict(zip(manager.add_requests([list(row.ids) for row in rows]), rows, strict=True))
        for ended in _results(manager):
            done = [(asked.pop(one.request_id), list(one.generated_tokens), one.error) for one in ended]
            answers = [(row, answer) for row, answer, error in done if error is None]
            if answers:
                yield answers
            if not asked:
                return


def pays(vlm: VLM) -> bool:
    """On CUDA alone: on a CPU it takes 1.7 times as long as batches of `generate` do (docs/results/performance.md)."""
    return vlm.device.type == "cuda" and not vlm.spread


_FLOWS: "WeakKeyDictionary[Any, dict[bool, bool]]" = WeakKeyDictionary()


def flows(vlm: VLM, rows: Sequence[Asked], settings: GenerationSettings) -> bool:
    """Whether this model's answers can be made here; tried against its own `generate`.

    Once per model, and once more for the first rows that are longer than its sliding window; a trial that finds no
    memory says nothing of the model and is made again the next time. Attention that the library would exchange for the
    time being is left alone: what it puts back is not always what there was.

    Args:
        vlm: the model.
        rows: all without a picture; some of different lengths are tried together, the longest among them.
        settings: greedy.
    """
    attention = vlm.base.config._attn_implementation
    if attention != "sdpa" and not attention.startswith("flash"):
        return False
    text = vlm.base.config.get_text_config()
    by_length = sorted(rows, key=lambda row: len(row.ids))
    beyond = len(by_length[-1].ids) + settings.max_new_tokens > (getattr(text, "sliding_window", None) or float("inf"))
    known = _FLOWS.setdefault(vlm.base, {})
    if beyond not in known:
        step = max(1, len(by_length) // TRIED)
        agrees = _agrees(vlm, by_length[::-step][:TRIED], settings.batch_tokens)
        if agrees is None:
            return False
        known[beyond] = agrees
    return known[beyond]


def _agrees(vlm: VLM, rows: Sequence[Asked], room: int) -> bool | None:
    """Whether both ways find the same tokens as likely, up to where they say different ones; None without memory."""
    try:
        with _silence(), _manager(vlm, rows, TRIAL, room, return_logprobs=True) as manager:
            names = manager.add_requests([list(row.ids) for row in rows])
            found: dict[str, Any] = {}
            for ended in _results(manager):
                found.update((one.request_id, one) for one in ended)
                if len(found) == len(rows):
                    break
        if any(out_of_memory(one.error) for one in found.values()):
            return None
        exact = vlm.base.dtype == torch.float32
        return all(_close(found[name], _scores(vlm, row), exact) for name, row in zip(names, rows, strict=True))
    except (
        AttributeError,
        ImportError,
        KeyError,
        IndexError,
        MemoryError,
        NotImplementedError,
        RuntimeError,
        TypeError,
        ValueError,
    ) as error:
        return None if out_of_memory(error) else False


@contextmanager
def _manager(vlm: VLM, rows: Sequence[Asked], longest: int, room: int, **more: Any) -> Iterator[Any]:
    """The library's manager, not started: what is added before its start does not depend on the clock.

    Args:
        vlm: the model.
        rows: what will be asked.
        longest: tokens of an answer at most.
        room: tokens that are kept at once; more if a row needs more.
        more: of the library's settings.
    """
    from transformers.generation.configuration_utils import ContinuousBatchingConfig
    from transformers.generation.continuous_batching.continuous_api import ContinuousBatchingManager

    if "hard_stop" not in signature(ContinuousBatchingManager.stop).parameters:
        raise NotImplementedError("a library that cannot be stopped before it has answered everything")
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
                num_blocks=_blocks(vlm, room),
                max_batch_tokens=min(room, MOST_AT_ONCE),
                seed=0,
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


def _blocks(vlm: VLM, room: int) -> int:
    """Pages of all layers that keep `room` tokens.

    They are given out by kind of attention, in portions that divide evenly among the layers of each kind: as large as
    the least common multiple of their counts. One portion of every kind may stay unused.
    """
    text = vlm.base.config.get_text_config()
    kinds = Counter(getattr(text, "layer_types", None) or ["full_attention"] * text.num_hidden_layers).values()
    return -(-room // PAGE) + 1 + len(kinds) * -(-lcm(*kinds) // sum(kinds))


def _results(manager: Any) -> Iterator[list[Any]]:
    """Starts it, and yields what has ended, one at least, until nothing more will come.

    The library seeds the whole process when it starts; that is taken back as soon as something has come of it.
    """
    with ExitStack() as seeded:
        seeded.enter_context(torch.random.fork_rng())
        manager.start()
        while ended := _ended(manager):
            seeded.close()
            yield ended


def _ended(manager: Any) -> list[Any]:
    """What has ended, one at least; empty if nothing more will come."""
    while True:
        running = manager.is_running()
        first = manager.get_result(timeout=1)
        if first is not None:
            break
        if not running:
            return []
    ended = [first]
    waiting: queue.Queue[Any] = manager.output_router.output_queue
    while not waiting.empty():
        ended.append(waiting.get())
    return ended


@contextmanager
def _silence() -> Iterator[None]:
    """Keeps the library from reporting what fails: what it leaves is asked in batches, which have their say."""
    logger = logging.getLogger("ContinuousBatchingLogger")
    disabled, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = disabled


@torch.inference_mode()
def _scores(vlm: VLM, row: Asked) -> list[Tensor]:
    """Scores [V] of each token of the answer that `generate` gives, penalties included."""
    output = vlm.base.generate(
        **model_inputs(vlm, [row]).to(vlm.device),
        do_sample=False,
        max_new_tokens=TRIAL,
        eos_token_id=sorted(vlm.end_tokens),
        pad_token_id=vlm.tokenizer.pad_token_id,
        output_scores=True,
        return_dict_in_generate=True,
    )
    return [scores[0].float() for scores in output.scores]


def _close(found: Any, expected: Sequence[Tensor], exact: bool) -> bool:
    """Whether tokens are as likely as expected, and the answers equally long where they are the same."""
    said = found.generated_tokens
    if found.error is not None or not said or len(found.logprobs) != len(said):
        return False
    for token, likely, scores in zip(said, found.logprobs, expected, strict=False):
        largest = scores[scores.isfinite()].abs().max().item()
        if abs(likely - scores.log_softmax(dim=-1)[token].item()) > (1e-4 if exact else 3e-2) * largest:
            return False
        if token != int(scores.argmax()):
            return True  # as likely, and from here on another answer
    return len(said) == len(expected)
