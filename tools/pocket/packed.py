"""The pocket VLM on packed rows while it is joined: each picture passes the tower once, and blank patches are left out.

Most of a page's 196 patches are blank, and a row without them passes the language model in half the time or less. The
tokens that stay keep their positions. So that the model also meets pages as they will come to it, every picture keeps a
random share of its blanks, now and then all.
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from tools.pocket.conversations import Row
from tools.pocket.tower import attending, autocast, features, pixel_values
from unsay.models.packing import attention_groups, decode_packed, pack
from unsay.models.pocket.assemble import IMAGE_TOKEN_ID
from unsay.models.vlm import VLM
from unsay.training.head import head_pass

BLANK = 0.5
"""A patch is blank if it is so near to an empty page's: root mean square, in those of the language model's embeddings.

Of pocket-1's patches with a part of a letter, 2 in 100 are nearer; of its blank patches, 80 in 100.
"""

KEPT = ((0.5, 0.0), (0.35, 0.1), (0.1, 0.3), (0.05, 1.0))
"""How often a picture keeps which share of its blank patches while it is learned from."""

CHUNK = 1024
"""Answer positions whose logits exist at the same time."""


@dataclass(frozen=True)
class Placed:
    """The part of a row that is read.

    Attributes:
        ids: its token ids, [n].
        columns: their positions in the whole row, ascending.
        states: embeddings [p, H] for those of its tokens that are patches; None without a picture.
        scored: places among `columns` that predict an answer's token.
    """

    ids: list[int]
    columns: list[int]
    states: Tensor | None
    scored: list[int]


def picture_states(vlm: VLM, images: NDArray[np.uint8]) -> Tensor:
    """Pictures B × H × W × 3 as they enter the language model, [B, P, H]; a tower that learns gets its gradients."""
    inner = vlm.base.model
    tower, kind = inner.vision_tower, precision(vlm)
    pixels = pixel_values(images, vlm.device).to(next(tower.parameters()).dtype)
    with attending(), autocast(vlm.device, kind):
        states: Tensor = inner.multi_modal_projector(features(tower, pixels))
    return states.to(kind)


def precision(vlm: VLM) -> torch.dtype:
    """In which the language model computes; a tower that learns is in float32."""
    return vlm.lm_head.get_parameter("weight").dtype


@torch.no_grad()
def blanks(vlm: VLM, images: NDArray[np.uint8], states: Tensor) -> Tensor:
    """Which patches of pictures are as good as those of an empty page, B × P.

    Args:
        vlm: the model.
        images: B × H × W × 3.
        states: theirs, [B, P, H].
    """
    empty = picture_states(vlm, np.full_like(images[:1], 255))
    length = vlm.base.get_input_embeddings().weight.float().pow(2).mean().sqrt()
    near: Tensor = (states - empty).float().pow(2).mean(-1).sqrt() < BLANK * length
    return near


def placed(row: Row, states: Tensor | None, blank: Sequence[bool], rng: random.Random | None) -> Placed:
    """A row without its last token, which predicts nothing, and without some of its blank patches.

    Args:
        row: the conversation.
        states: of its picture, [P, H].
        blank: which of its patches are blank.
        rng: chooses the blanks that stay; None keeps all.
    """
    columns = list(range(len(row.ids) - 1))
    if states is not None and rng is not None:
        share = rng.choices([kept for _, kept in KEPT], [often for often, _ in KEPT])[0]
        stays = [not empty or rng.random() < share for empty in blank]
        first = row.ids.index(IMAGE_TOKEN_ID)
        dropped = {first + patch for patch, stay in enumerate(stays) if not stay}
        columns = [column for column in columns if column not in dropped]
        states = states[torch.tensor(stays, device=states.device)]
    place = {column: number for number, column in enumerate(columns)}
    return Placed([row.ids[column] for column in columns], columns, states, [place[at - 1] for at in row.scored])


def answer_states(vlm: VLM, rows: Sequence[Placed], prefix: int) -> Tensor:
    """The decoder's last states at the positions that predict the rows' scored tokens, in order, [N, H].

    Args:
        vlm: the model.
        rows: what is read.
        prefix: tokens that all rows begin with.
    """
    lengths = {number: len(row.ids) - prefix for number, row in enumerate(rows)}
    groups = attention_groups(list(lengths.values()), vlm.device.type == "cpu")
    packing = pack(lengths, groups, prefix, vlm.device, precision(vlm))
    tokens = rows[0].ids[:prefix] + [token for number in packing.rows for token in rows[number].ids[prefix:]]
    columns = list(range(prefix)) + [column for number in packing.rows for column in rows[number].columns[prefix:]]
    ids = torch.tensor(tokens, device=vlm.device)
    entering = vlm.base.get_input_embeddings()(ids)
    shown = [states for number in packing.rows if (states := rows[number].states) is not None]
    if shown:
        entering = entering.index_put((torch.where(ids == IMAGE_TOKEN_ID)[0],), torch.cat(shown))
    packing = replace(packing, position_ids=torch.tensor(columns, device=vlm.device)[None])
    hidden = decode_packed(vlm, packing, inputs_embeds=entering[None])[0]
    at = [packing.starts[number] + place - prefix for number, row in enumerate(rows) for place in row.scored]
    return hidden.index_select(0, torch.tensor(at, device=vlm.device))


def terms(vlm: VLM, rows: Sequence[Row], prefix: int, rng: random.Random | None) -> list[Tensor]:
    """The loss of every scored token, row by row: KL(original on the plain text ‖ this model), else cross-entropy.

    Args:
        vlm: the model with its adapter.
        rows: conversations.
        prefix: tokens that all of them begin with.
        rng: chooses the blank patches that stay; None keeps all.
    """
    read = _read(vlm, rows, rng)
    targets = torch.tensor([token for row in rows for token in row.targets], device=vlm.device)
    counts = [len(row.scored) for row in rows]
    referring = [row for row in rows if row.reference is not None]
    original = _original_states(vlm, referring, prefix) if referring else None
    current = answer_states(vlm, read, prefix)
    chosen = torch.tensor([row.reference is not None for row in rows for _ in row.scored], device=vlm.device)
    values = torch.zeros(len(targets), device=vlm.device)
    head = partial(head_pass, vlm.lm_head)
    if original is not None:
        _, _, kl = head(current[chosen], targets[chosen], original, True, CHUNK)
        assert kl is not None
        values = values.masked_scatter(chosen, kl)
    if not chosen.all():
        log_p, _, _ = head(current[~chosen], targets[~chosen], None, False, CHUNK)
        values = values.masked_scatter(~chosen, -log_p)
    return list(torch.split(values, counts))


def _read(vlm: VLM, rows: Sequence[Row], rng: random.Random | None) -> list[Placed]:
    """What is read of the rows; their pictures pass the tower together."""
    shown = [row.pixels for row in rows if row.pixels is not None]
    seen: Iterator[tuple[Tensor, list[bool]]] = iter(())
    if shown:
        images = np.stack(shown)
        states = picture_states(vlm, images)
        seen = zip(states, blanks(vlm, images, states).tolist(), strict=True)
    read = []
    for row in rows:
        picture, blank = (None, list[bool]()) if row.pixels is None else next(seen)
        read.append(placed(row, picture, blank, rng))
    return read


@torch.no_grad()
def _original_states(vlm: VLM, rows: Sequence[Row], prefix: int) -> Tensor:
    """The original language model's states at the same answers' tokens, after the plain text."""
    read = []
    for row in rows:
        assert row.reference is not None
        first = len(row.reference) - len(row.scored)
        plain = Row(row.goal, row.reference, list(range(first, len(row.reference))))
        read.append(placed(plain, None, (), None))
    with vlm.model.disable_adapter():
        return answer_states(vlm, read, prefix)


def losses(vlm: VLM, rows: Sequence[Row], prefix: int, rng: random.Random | None) -> dict[str, Tensor]:
    """`terms` as a mean over the tokens of each goal."""
    by_goal: dict[str, list[Tensor]] = {}
    for row, values in zip(rows, terms(vlm, rows, prefix, rng), strict=True):
        by_goal.setdefault(row.goal, []).append(values)
    return {goal: torch.cat(values).mean() for goal, values in by_goal.items()}


def opened(vlm: Any, name: str = "pocket") -> VLM:
    """A peft model as the VLM that packed rows pass; it needs neither processor nor key."""
    return VLM(name, vlm, None, "")
