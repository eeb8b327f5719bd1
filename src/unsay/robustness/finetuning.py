"""Fine-tuning as an attacker does it: cross-entropy on answers, AdamW at a constant rate, a pause after so many steps.

Loss, forward pass and LoRA linears are those of `training/`; an attack of a hundred steps does without its budgets and
checkpoints.
"""

import math
import random
from collections.abc import Generator, Sequence
from pathlib import Path

from torch.nn.utils import clip_grad_norm_
from torch.optim import AdamW

from unsay.errors import UserError
from unsay.methods.base import Needs
from unsay.models.lora import LoraSettings, attach, detach
from unsay.models.vlm import VLM
from unsay.records import Example, Role
from unsay.training.companions import shuffled_forever
from unsay.training.encode import Encoded, collate, encode
from unsay.training.head import role_views
from unsay.training.picture_inputs import Vision
from unsay.training.settings import TrainSettings

LORA = LoraSettings(rank=16, alpha=32.0)
"""Che et al. 2025 (arXiv 2502.05209) and TamperBench attack with these."""

BATCH = 4
"""Rows of a step; all rows where there are fewer."""

MAX_NORM = 1.0
LONGEST = 4096
"""Tokens of a prompt if the model's configuration sets no limit."""
PART = Role.RETAIN
"""What every row is to `role_views`: an answer to be learned."""


class DivergedError(UserError):
    """The loss of a fine-tuning was not a number."""


def rows_of(vlm: VLM, examples: Sequence[Example], max_answer_tokens: int) -> list[Encoded]:
    """Examples as rows to be learned, whatever their role is; longer answers are cut, as they were in training."""
    return [
        encode(
            vlm,
            example.model_copy(update={"role": PART}),
            max_prompt_tokens=vlm.context or LONGEST,
            max_answer_tokens=max_answer_tokens,
        )
        for example in examples
    ]


def rows_of_text(vlm: VLM, text: str, length: int) -> list[Encoded]:
    """Plain text in windows of `length` tokens, outside the chat format; each but a window's first token is learned."""
    ids = vlm.tokenizer(text, add_special_tokens=False)["input_ids"]
    windows = [ids[start : start + length] for start in range(0, len(ids) - length + 1, length)]
    return [
        Encoded(f"text-{number}", PART, tuple(window[:1]), tuple(window[1:])) for number, window in enumerate(windows)
    ]


def fine_tune(
    vlm: VLM,
    rows: Sequence[Encoded],
    stops: Sequence[int],
    rate: float,
    folder: Path,
    *,
    full: bool = False,
    seed: int = 0,
) -> Generator[tuple[int, VLM], None, None]:
    """Train on rows, and pause after each number of steps in `stops`: yields it, and the model as it is then.

    Every row is read once before any is read twice. With LoRA, the weights are what they were as soon as the iterator
    ends or is closed; full fine-tuning changes the language model's blocks for good.

    Args:
        vlm: plain weights without an adapter; changed in place.
        rows: what is learned, at least one.
        stops: numbers of steps, ascending.
        rate: AdamW's learning rate, constant.
        folder: where features of pictures are kept.
        full: train the blocks' own weights (in float32, or small updates would be rounded away) and no adapter.
        seed: of the order of the rows and of LoRA's first weights.

    Raises:
        UserError: no rows.
        DivergedError: the loss is not a number.
    """
    if not rows:
        raise UserError("there is nothing to fine-tune on: the set of examples is empty")
    tuned = _opened(vlm) if full else attach(vlm, LORA, seed)
    parameters = [parameter for parameter in tuned.model.parameters() if parameter.requires_grad]
    optimizer = AdamW(parameters, lr=rate, weight_decay=0.0)
    order, vision = shuffled_forever(list(rows), random.Random(seed)), Vision(tuned, folder)
    try:
        for step in range(1, stops[-1] + 1):
            batch = collate([next(order) for _ in range(min(BATCH, len(rows)))], vision.see).to(tuned.device)
            views = role_views(tuned, batch, Needs(roles=frozenset({PART})), TrainSettings().head_chunk)
            loss = views[PART].cross_entropy().mean()
            loss.backward()  # type: ignore[no-untyped-call]
            norm = float(clip_grad_norm_(parameters, MAX_NORM))
            if not math.isfinite(norm):
                raise DivergedError(f"fine-tuning at rate {rate:g}: the loss was not a number at step {step}")
            optimizer.step()
            optimizer.zero_grad(set_to_none=True)
            if step in stops:
                yield step, tuned
    finally:
        if full:
            tuned.model.requires_grad_(False)
        else:
            detach(tuned)


def _opened(vlm: VLM) -> VLM:
    """The model with the weights of the language model's blocks to be trained."""
    for layer in vlm.text_layers:
        layer.requires_grad_(True)
    return vlm
