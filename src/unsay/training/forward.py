"""The language model's forward over a mixed batch, without paying for what is not needed.

Four things make a padded batch of chat prompts expensive where arithmetic is the limit (a CPU): every row begins with
the same system prompt, short rows are padded to the longest, every row's last token is read although nothing is
predicted from it, and the original model repeats what the current one has computed below the lowest adapter. So the
common prefix is computed once, rows pass packed, or padded with rows of like length, up to their last predicting
position, and the original starts above the layers that both have in common. None of this changes the result: positions,
attention and gradients are those of one row at a time (tests compare them).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from unsay.methods.base import Part
from unsay.models.packing import packs
from unsay.models.vision import whole_hidden
from unsay.models.vlm import VLM
from unsay.training.encoding import MixedBatch
from unsay.training.hidden import keeping_each
from unsay.training.packed import packed_hidden
from unsay.training.padded import padded_hidden
from unsay.training.pictures import joined, pixel_groups
from unsay.training.states import AnswerStates, scored


def answer_hidden(
    vlm: VLM, batch: MixedBatch, original_roles: frozenset[Part] = frozenset(), blocks: Sequence[int] = ()
) -> AnswerStates:
    """Hidden states at the positions that predict answer tokens; all others are dropped here.

    Args:
        vlm: the model, with its adapter if it has one.
        batch: B rows, N answer tokens.
        original_roles: roles whose rows the original model (the adapter switched off) is to read too.
        blocks: numbers of the decoder's blocks whose output is wanted too.
    """
    if batch.whole:
        return _apart(vlm, batch, original_roles, blocks)
    if vlm.packs is None:
        vlm.packs = not vlm.spread and packs(vlm)
    return (packed_hidden if vlm.packs else padded_hidden)(vlm, batch, original_roles, blocks)


def _apart(vlm: VLM, batch: MixedBatch, original_roles: frozenset[Part], blocks: Sequence[int]) -> AnswerStates:
    """Rows that need the whole model by way of it, the others as ever: correct for every family, and slower."""
    whole = [seen is not None and seen.features is None for seen in batch.pictures]
    parts: list[AnswerStates] = []
    order: list[int] = []
    for keep, hidden_of in ((whole, _whole_model), ([not kept for kept in whole], answer_hidden)):
        if any(keep):
            part = batch.subset(keep)
            parts.append(hidden_of(vlm, part, original_roles & frozenset(part.roles), blocks))
            order += [number for row, kept in enumerate(keep) if kept for number in batch.scored(row)]
    back = batch.index(sorted(range(len(order)), key=order.__getitem__))

    def again(tensors: Sequence[Tensor | None]) -> Tensor | None:
        """The parts' tensors in the order of the whole batch; zero where the original model read nothing of a part."""
        known = [tensor for tensor in tensors if tensor is not None]
        if not known:
            return None
        sizes = [len(part.current) for part in parts]
        filled = [
            known[0].new_zeros(size, *known[0].shape[1:]) if tensor is None else tensor
            for tensor, size in zip(tensors, sizes, strict=True)
        ]
        return torch.cat(filled)[back]

    return AnswerStates(
        torch.cat([part.current for part in parts])[back],
        again([part.original for part in parts]),
        again([part.blocks for part in parts]),
        again([part.original_blocks for part in parts]),
    )


def _whole_model(
    vlm: VLM, batch: MixedBatch, original_roles: frozenset[Part], blocks: Sequence[int] = ()
) -> AnswerStates:
    """`answer_hidden` for rows with pictures, by forwards of the whole model."""
    groups = pixel_groups(batch.pictures)
    current, seen = _whole_groups(vlm, batch, groups, blocks)
    if not original_roles:
        return AnswerStates(current, blocks=seen)
    wanted = batch.rows_of(original_roles)
    groups = [kept for rows in groups if (kept := [row for row in rows if wanted[row]])]
    with torch.no_grad(), vlm.model.disable_adapter():
        original, before = _whole_groups(vlm, batch, groups, blocks)
    return AnswerStates(current, original, seen, before)


def _whole_groups(
    vlm: VLM, batch: MixedBatch, groups: list[list[int]], blocks: Sequence[int]
) -> tuple[Tensor, Tensor | None]:
    with keeping_each(vlm, blocks) as outs:
        states = scored(batch, groups, 0, [whole_hidden(vlm, _pixels_in(batch, rows)) for rows in groups])
    seen = [scored(batch, groups, 0, out) for out in outs]
    return states, torch.stack(seen, dim=1) if seen else None


def _pixels_in(batch: MixedBatch, rows: list[int]) -> dict[str, Tensor]:
    """The whole model's inputs for these rows, answers included."""
    longest = max(batch.examples[row].length for row in rows)
    pixels = joined([batch.pictures[row] for row in rows], longest)
    return {
        "input_ids": batch.input_ids[rows, :longest],
        "attention_mask": batch.attention_mask[rows, :longest],
        **pixels,
    }
