"""Rows that pass the decoder without padding, as one: the fast way, for decoders that take it.

The common beginning stands first, once. The original model reads the rows that it must in a second pass, which starts
above the layers that both models have in common.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from unsay.methods.base import Part
from unsay.models.packing import Layout, decode_packed, layout
from unsay.models.sharing import keeping, starting_after
from unsay.models.vision import with_features
from unsay.models.vlm import VLM
from unsay.training.encoding import MixedBatch
from unsay.training.hidden import keeping_each
from unsay.training.lengths import attention_groups, common_prefix, read_lengths
from unsay.training.states import AnswerStates, read_by


def packed_hidden(vlm: VLM, batch: MixedBatch, original_roles: frozenset[Part], blocks: Sequence[int]) -> AnswerStates:
    """`answer_hidden` of rows without pixels, packed."""
    prefix = common_prefix(batch.examples)
    shared = vlm.layers[: vlm.shared_layers]
    packing = _packing(vlm, batch, list(range(len(batch.examples))), prefix)
    with keeping(shared) as kept, keeping_each(vlm, blocks) as outs:
        current = _scored(batch, packing, decode_packed(vlm, packing, **_entering(vlm, batch, packing)))
    seen = [_scored(batch, packing, out[-1]) for out in outs]
    states = torch.stack(seen, dim=1) if seen else None
    if not original_roles:
        return AnswerStates(current, blocks=states)

    again = _packing(vlm, batch, [row for row, read in enumerate(batch.rows_of(original_roles)) if read], prefix)
    under = kept[-1].index_select(1, batch.index(_tokens_of(batch, packing, again.rows))) if shared else None
    with (
        torch.no_grad(),
        vlm.model.disable_adapter(),
        keeping_each(vlm, blocks) as outs,
        starting_after(shared, under),
    ):
        original = _scored(batch, again, decode_packed(vlm, again, **_entering(vlm, batch, again)))
    if states is None:
        return AnswerStates(current, original)
    before = [
        # A shared block was not run, and gives what it gave before.
        seen[place] if number < len(shared) else _scored(batch, again, outs[place][-1])
        for place, number in enumerate(blocks)
    ]
    return AnswerStates(current, original, states, read_by(batch, original_roles, before))


def _packing(vlm: VLM, batch: MixedBatch, rows: list[int], prefix: int) -> Layout:
    lengths = [length - prefix for length in read_lengths([batch.examples[row] for row in rows])]
    groups = attention_groups(lengths, vlm.device.type == "cpu")
    dtype = next(vlm.decoder.parameters()).dtype
    numbered = [[rows[place] for place in group] for group in groups]
    return layout(dict(zip(rows, lengths, strict=True)), numbered, prefix, vlm.device, dtype)


def _entering(vlm: VLM, batch: MixedBatch, packing: Layout) -> dict[str, Tensor]:
    """What packed rows put into the decoder: token ids, or embeddings where a row has a picture."""
    tokens = list(batch.examples[packing.rows[0]].prompt_ids[: packing.prefix])
    for row in packing.rows:
        example = batch.examples[row]
        tokens += (example.prompt_ids + example.answer_ids)[packing.prefix : -1]
    ids = batch.index(tokens)[None]
    places: list[int] = []
    features: list[Tensor] = []
    for row in packing.rows if batch.pictures else ():
        picture, seen = batch.examples[row].picture, batch.pictures[row]
        if picture is not None and seen is not None and seen.features is not None:
            places += [packing.starts[row] + column - packing.prefix for column in picture.columns]
            features.append(seen.features)
    if not features:
        return {"input_ids": ids}
    columns = batch.index(places)
    return {"inputs_embeds": with_features(vlm, ids, torch.zeros_like(columns), columns, torch.cat(features))}


def _tokens_of(batch: MixedBatch, packing: Layout, rows: Sequence[int]) -> list[int]:
    """Where the prefix and these rows stand among packed rows, in the order of these."""
    lengths = read_lengths(batch.examples)
    tokens = list(range(packing.prefix))
    for row in rows:
        tokens += range(packing.starts[row], packing.starts[row] + lengths[row] - packing.prefix)
    return tokens


def _scored(batch: MixedBatch, packing: Layout, hidden: Tensor) -> Tensor:
    """Packed states at the N predicting positions, [N, H]; zero for rows that are not packed."""
    rows = sorted(packing.rows)
    places = [packing.starts[row] + column - packing.prefix for row in rows for column in batch.predicting(row)]
    picked = hidden[0].index_select(0, batch.index(places))
    if len(rows) == len(batch.examples):
        return picked
    numbers = batch.index([number for row in rows for number in batch.scored(row)])
    return picked.new_zeros(len(batch.targets), picked.shape[-1]).index_copy(0, numbers, picked)
