"""The language model's forward pass over a mixed batch: hidden states where answers are predicted.

Four things make a padded batch of chat prompts expensive where arithmetic is the limit (a CPU): every row begins with
the same system prompt, short rows are padded to the longest, every row's last token is read although nothing is
predicted from it, and the original model repeats what the current one has computed below the lowest adapter. So the
common prefix is computed once, rows pass packed, or padded with rows of like length, up to their last predicting
position, and the original starts above the layers that both models share. None of this changes the result: positions,
attention and gradients are those of one row at a time (tests compare them).

Packed rows pass as one row without padding, if the decoder allows it. Padded groups are for the others; there, the
prefix's keys and values are shared by all rows if the family keeps a plain cache.
"""

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from typing import NamedTuple

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer

from unsay.methods.base import Part
from unsay.models.layers import adding, recording_blocks, recording_output, skipping
from unsay.models.packing import Packing, attention_groups, decode_packed, pack, packs
from unsay.models.vision import whole_hidden, with_features
from unsay.models.vlm import VLM
from unsay.training.encode import MixedBatch, read_lengths, shared_prefix
from unsay.training.picture_inputs import joined, pixel_groups


class AnswerStates(NamedTuple):
    """Hidden states at the N positions that predict answer tokens, H numbers each; the original's without gradient.

    Attributes:
        current: the decoder's last states under the current model, [N, H].
        original: the same under the original model, zero for roles that it did not read, [N, H]; None if it read none.
        blocks: outputs of K chosen blocks under the current model, [N, K, H]; None if none was chosen.
        original_blocks: the same under the original model, zero where it did not read, [N, K, H]; None if it read none.
    """

    current: Tensor
    original: Tensor | None = None
    blocks: Tensor | None = None
    original_blocks: Tensor | None = None


def scored(batch: MixedBatch, groups: Sequence[Sequence[int]], prefix: int, outputs: Sequence[Tensor]) -> Tensor:
    """The states at the N predicting positions, [N, H]; zero for rows that stand in no group.

    Args:
        batch: B rows.
        groups: numbers of the rows that stand side by side.
        prefix: columns of each row that are not among the outputs.
        outputs: [rows, columns, H] of each group.
    """
    device = batch.targets.device  # outputs of a model that is spread over devices are where its layers are
    hidden = outputs[0].new_zeros(len(batch.targets), outputs[0].shape[-1], device=device)
    for group, output in zip(groups, outputs, strict=True):
        width = output.shape[1]
        places = [
            place * width + column - prefix for place, row in enumerate(group) for column in batch.predicting(row)
        ]
        numbers = [number for row in group for number in batch.scored(row)]
        picked = output.to(device).flatten(0, 1).index_select(0, batch.index(places))
        hidden = hidden.index_put((batch.index(numbers),), picked)
    return hidden


def read_by(batch: MixedBatch, roles: frozenset[Part], states: Sequence[Tensor]) -> Tensor:
    """States [N, H] of some blocks together, [N, K, H] without gradient; zero but for rows with these roles."""
    together = torch.stack(list(states), dim=1).detach()
    chosen = batch.index(batch.scored_in(roles))
    return torch.zeros_like(together).index_copy(0, chosen, together.index_select(0, chosen))


def _added(
    vlm: VLM, batch: MixedBatch, place_of: Callable[[int, int], tuple[int, int] | None]
) -> AbstractContextManager[None]:
    """A context for one pass of the current model, in which what the batch adds to hidden states is added.

    Args:
        vlm: the model.
        batch: the batch.
        place_of: row and column of a token → where it stands in a block's output; None if it does not pass.
    """
    added = batch.added
    if added is None:
        return nullcontext()
    there = [(number, place) for number, token in enumerate(added.places) if (place := place_of(*token)) is not None]
    if not there:
        return nullcontext()
    numbers = batch.index([number for number, _ in there])
    index = tuple(batch.index(list(values)) for values in zip(*(place for _, place in there), strict=True))
    states = {block: state[numbers] for block, state in added.states.items()}

    def note(block: int, lengths: Tensor) -> None:
        added.note(block, numbers, lengths)

    return adding(vlm, states, index, note)


def _side_by_side(group: Sequence[int], prefix: int) -> Callable[[int, int], tuple[int, int] | None]:
    """Where the tokens of rows stand that pass side by side, without a prefix."""
    places = {row: place for place, row in enumerate(group)}
    return lambda row, column: (places[row], column - prefix) if row in places else None


def padded_hidden(vlm: VLM, batch: MixedBatch, original_roles: frozenset[Part], blocks: Sequence[int]) -> AnswerStates:
    """`answer_hidden` of rows without pixels, by padded groups."""
    lengths = read_lengths(batch.examples)
    prefix = 0 if vlm.uniform else shared_prefix(batch.examples, batch.added)
    shared = vlm.layers[: vlm.shared_layers]
    with recording_output(shared) as kept, recording_blocks(vlm, blocks) as outs:
        cache = _prefix_states(vlm, batch.input_ids[:1, :prefix]) if prefix else None
        if cache is not None and any(layer.keys is None for layer in cache.layers):
            cache = None  # cross attention, without a picture, keeps nothing
        prefix = prefix if cache is not None else 0
        groups = attention_groups([n - prefix for n in lengths], vlm.device.type == "cpu" and not vlm.uniform)
        outputs = []
        for group in groups:
            with _added(vlm, batch, _side_by_side(group, prefix)):
                outputs.append(_decoded(vlm, batch, group, prefix, cache))
        current = scored(batch, groups, prefix, outputs)
    # A pass of the prefix alone came first.
    seen = [scored(batch, groups, prefix, out[-len(groups) :]) for out in outs]
    states = torch.stack(seen, dim=1) if seen else None
    if not original_roles:
        return AnswerStates(current, blocks=states)

    wanted = batch.rows_of(original_roles)
    below = kept[-len(groups) :] if shared else [None] * len(groups)  # the shared layers' output for each group
    chosen: list[list[int]] = []
    outputs = []
    with torch.no_grad(), vlm.model.disable_adapter(), recording_blocks(vlm, blocks) as outs:
        if cache is not None:
            with skipping(shared, kept[0] if shared else None):
                original_cache = _prefix_states(vlm, batch.input_ids[:1, :prefix])
            assert original_cache is not None  # the same model gave a plain cache just now
            original_cache.layers[: len(shared)] = cache.layers[: len(shared)]
            cache = original_cache
        for group, under in zip(groups, below, strict=True):
            places = [place for place, row in enumerate(group) if wanted[row]]
            if not places:
                continue
            chosen.append([group[place] for place in places])
            longest = max(lengths[row] for row in chosen[-1])
            with skipping(shared, under[places, : longest - prefix] if shared else None):
                outputs.append(_decoded(vlm, batch, chosen[-1], prefix, cache))
        original = scored(batch, chosen, prefix, outputs)
        if states is None:
            return AnswerStates(current, original)
        before = [
            # A shared block was not run; its output is that of before.
            seen[place] if number < len(shared) else scored(batch, chosen, prefix, outs[place][-len(chosen) :])
            for place, number in enumerate(blocks)
        ]
        return AnswerStates(current, original, states, read_by(batch, original_roles, before))


def _decoded(vlm: VLM, batch: MixedBatch, rows: list[int], prefix: int, cache: DynamicCache | None) -> Tensor:
    """Last hidden states of these rows after the prefix, up to the last predicting position of the longest of them."""
    longest = max(read_lengths([batch.examples[row] for row in rows]))
    hidden: Tensor = vlm.decoder(
        **_entering_padded(vlm, batch, rows, prefix, longest),
        attention_mask=batch.attention_mask[rows, :longest],
        past_key_values=None if cache is None else _repeated(cache, len(rows)),
        use_cache=cache is not None,
    ).last_hidden_state
    return hidden


def _entering_padded(vlm: VLM, batch: MixedBatch, rows: list[int], prefix: int, longest: int) -> dict[str, Tensor]:
    """These rows' inputs to the decoder: token ids, or embeddings if a row has a picture."""
    ids = batch.input_ids[rows, prefix:longest]
    placed = [(place, batch.pictures[row]) for place, row in enumerate(rows)] if batch.pictures else []
    pictured = [(place, seen) for place, seen in placed if seen is not None and seen.features is not None]
    if not pictured:
        return {"input_ids": ids}
    places = torch.cat([torch.full_like(seen.columns, place) for place, seen in pictured])
    columns = torch.cat([seen.columns - prefix for _, seen in pictured])
    features = torch.cat([seen.features for _, seen in pictured if seen.features is not None])
    return {"inputs_embeds": with_features(vlm, ids, places, columns, features)}


def _prefix_states(vlm: VLM, ids: Tensor) -> DynamicCache | None:
    """Keys and values of the common prefix, with gradient; None if the model keeps another kind of cache."""
    cache = vlm.decoder(input_ids=ids, use_cache=True).past_key_values
    plain = type(cache) is DynamicCache and all(type(layer) is DynamicLayer for layer in cache.layers)
    return cache if plain else None


def _repeated(cache: DynamicCache, rows: int) -> DynamicCache:
    """The same keys and values for every row; expanded, not copied, so their gradients add up."""
    repeated = DynamicCache()
    for index, layer in enumerate(cache.layers):
        repeated.update(layer.keys.expand(rows, -1, -1, -1), layer.values.expand(rows, -1, -1, -1), index)
    return repeated


def packed_hidden(vlm: VLM, batch: MixedBatch, original_roles: frozenset[Part], blocks: Sequence[int]) -> AnswerStates:
    """`answer_hidden` of rows without pixels, packed."""
    prefix = shared_prefix(batch.examples, batch.added)
    shared = vlm.layers[: vlm.shared_layers]
    packing = _packing(vlm, batch, list(range(len(batch.examples))), prefix)
    with (
        recording_output(shared) as kept,
        recording_blocks(vlm, blocks) as outs,
        _added(vlm, batch, lambda row, column: (0, packing.starts[row] + column - prefix)),
    ):
        current = _scored(batch, packing, decode_packed(vlm, packing, **_entering_packed(vlm, batch, packing)))
    seen = [_scored(batch, packing, out[-1]) for out in outs]
    states = torch.stack(seen, dim=1) if seen else None
    if not original_roles:
        return AnswerStates(current, blocks=states)

    again = _packing(vlm, batch, [row for row, read in enumerate(batch.rows_of(original_roles)) if read], prefix)
    under = kept[-1].index_select(1, batch.index(_tokens_of(batch, packing, again.rows))) if shared else None
    with (
        torch.no_grad(),
        vlm.model.disable_adapter(),
        recording_blocks(vlm, blocks) as outs,
        skipping(shared, under),
    ):
        original = _scored(batch, again, decode_packed(vlm, again, **_entering_packed(vlm, batch, again)))
    if states is None:
        return AnswerStates(current, original)
    before = [
        # A shared block was not run; its output is that of before.
        seen[place] if number < len(shared) else _scored(batch, again, outs[place][-1])
        for place, number in enumerate(blocks)
    ]
    return AnswerStates(current, original, states, read_by(batch, original_roles, before))


def _packing(vlm: VLM, batch: MixedBatch, rows: list[int], prefix: int) -> Packing:
    lengths = [length - prefix for length in read_lengths([batch.examples[row] for row in rows])]
    groups = attention_groups(lengths, vlm.device.type == "cpu")
    dtype = next(vlm.decoder.parameters()).dtype
    numbered = [[rows[place] for place in group] for group in groups]
    return pack(dict(zip(rows, lengths, strict=True)), numbered, prefix, vlm.device, dtype)


def _entering_packed(vlm: VLM, batch: MixedBatch, packing: Packing) -> dict[str, Tensor]:
    """Packed rows' inputs to the decoder: token ids, or embeddings if a row has a picture."""
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


def _tokens_of(batch: MixedBatch, packing: Packing, rows: Sequence[int]) -> list[int]:
    """Places of the prefix and of these rows among packed rows, in the order of `rows`."""
    lengths = read_lengths(batch.examples)
    tokens = list(range(packing.prefix))
    for row in rows:
        tokens += range(packing.starts[row], packing.starts[row] + lengths[row] - packing.prefix)
    return tokens


def _scored(batch: MixedBatch, packing: Packing, hidden: Tensor) -> Tensor:
    """Packed states at the N predicting positions, [N, H]; zero for rows that are not packed."""
    rows = sorted(packing.rows)
    places = [packing.starts[row] + column - packing.prefix for row in rows for column in batch.predicting(row)]
    picked = hidden[0].index_select(0, batch.index(places))
    if len(rows) == len(batch.examples):
        return picked
    numbers = batch.index([number for row in rows for number in batch.scored(row)])
    return picked.new_zeros(len(batch.targets), picked.shape[-1]).index_copy(0, numbers, picked)


def answer_hidden(
    vlm: VLM, batch: MixedBatch, original_roles: frozenset[Part] = frozenset(), blocks: Sequence[int] = ()
) -> AnswerStates:
    """Hidden states at the positions that predict answer tokens; all others are dropped here."""
    if batch.whole:
        return _mixed_forward(vlm, batch, original_roles, blocks)
    if vlm.packs is None:
        vlm.packs = not vlm.spread and packs(vlm)
    return (packed_hidden if vlm.packs else padded_hidden)(vlm, batch, original_roles, blocks)


def _mixed_forward(vlm: VLM, batch: MixedBatch, original_roles: frozenset[Part], blocks: Sequence[int]) -> AnswerStates:
    """Rows that need the whole model pass it, the others the decoder: correct for every family, and slower."""
    whole = [seen is not None and seen.features is None for seen in batch.pictures]
    parts: list[AnswerStates] = []
    order: list[int] = []
    for keep, hidden_of in ((whole, _whole_model), ([not kept for kept in whole], answer_hidden)):
        if any(keep):
            part = batch.subset(keep)
            parts.append(hidden_of(vlm, part, original_roles & frozenset(part.roles), blocks))
            order += [number for row, kept in enumerate(keep) if kept for number in batch.scored(row)]
    back = batch.index(sorted(range(len(order)), key=order.__getitem__))

    def joined_again(tensors: Sequence[Tensor | None]) -> Tensor | None:
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
        joined_again([part.original for part in parts]),
        joined_again([part.blocks for part in parts]),
        joined_again([part.original_blocks for part in parts]),
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
        original, before = _whole_groups(vlm, replace(batch, added=None), groups, blocks)
    return AnswerStates(current, original, seen, before)


def _whole_groups(
    vlm: VLM, batch: MixedBatch, groups: list[list[int]], blocks: Sequence[int]
) -> tuple[Tensor, Tensor | None]:
    with recording_blocks(vlm, blocks) as outs:
        outputs = []
        for group in groups:
            with _added(vlm, batch, _side_by_side(group, 0)):
                outputs.append(whole_hidden(vlm, _pixels_in(batch, group)))
        states = scored(batch, groups, 0, outputs)
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
