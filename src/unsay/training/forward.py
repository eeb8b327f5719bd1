"""The language model's forward over a mixed batch, without paying for what is not needed.

Three things make a padded batch of chat prompts expensive where arithmetic is the limit (a CPU): every row begins with
the same system prompt, short rows are padded to the longest, and the original model repeats what the current one has
computed below the lowest adapter. So the common prefix is computed once and its keys and values are shared by all rows,
rows of like length go together, and the original starts above the layers that both have in common. None of this changes
the result: positions, attention and gradients are those of one row at a time (tests compare them).
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer

from unsay.methods.base import Part
from unsay.models.sharing import keeping, starting_after
from unsay.models.vision import whole_hidden, with_features
from unsay.models.vlm import VLM
from unsay.training.encoding import MixedBatch
from unsay.training.hidden import keeping_each
from unsay.training.pictures import joined, pixel_groups

WASTE = 0.15
"""Padding that a group may have, as a share of its size, before another group is begun."""

MIN_PREFIX = 8
"""Tokens: a shorter common prefix is not worth a forward of its own."""


class AnswerStates(NamedTuple):
    """Hidden states at the N positions that predict answer tokens, H numbers each; the original's without gradient.

    Attributes:
        current: the decoder's last ones under the current model, [N, H].
        original: the same under the original model, zero for roles that it did not read, [N, H]; None if it read none.
        blocks: what K chosen blocks put out under the current model, [N, K, H]; None if none was chosen.
        original_blocks: the same under the original model, zero where it did not read, [N, K, H]; None if it read none.
    """

    current: Tensor
    original: Tensor | None = None
    blocks: Tensor | None = None
    original_blocks: Tensor | None = None


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
    lengths: list[int] = batch.attention_mask.sum(dim=1).tolist()
    prefix = 0 if vlm.uniform else common_prefix(batch, lengths)
    shared = vlm.layers[: vlm.shared_layers]
    with keeping(shared) as kept, keeping_each(vlm, blocks) as outs:
        cache = _prefix_states(vlm, batch.input_ids[:1, :prefix]) if prefix >= MIN_PREFIX else None
        if cache is not None and any(layer.keys is None for layer in cache.layers):
            cache = None  # cross attention, without a picture, keeps nothing
        prefix = prefix if cache is not None else 0
        # A group costs little arithmetic but many launches: worth it on a CPU, not on an accelerator.
        grouped = vlm.device.type == "cpu" and not vlm.uniform
        groups = length_groups([n - prefix for n in lengths]) if grouped else [list(range(len(lengths)))]
        current = _scored(batch, groups, prefix, [_decoded(vlm, batch, rows, prefix, cache) for rows in groups])
    # The prefix, where it was read alone, came first.
    seen = [_scored(batch, groups, prefix, out[-len(groups) :]) for out in outs]
    states = torch.stack(seen, dim=1) if seen else None
    if not original_roles:
        return AnswerStates(current, blocks=states)

    wanted: list[bool] = batch.rows_of(original_roles).tolist()
    below = kept[-len(groups) :] if shared else [None] * len(groups)  # what the shared layers gave for each group
    chosen: list[list[int]] = []
    outputs = []
    with torch.no_grad(), vlm.model.disable_adapter(), keeping_each(vlm, blocks) as outs:
        if cache is not None:
            with starting_after(shared, kept[0] if shared else None):
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
            with starting_after(shared, under[places, : longest - prefix] if shared else None):
                outputs.append(_decoded(vlm, batch, chosen[-1], prefix, cache))
        original = _scored(batch, chosen, prefix, outputs)
        if states is None:
            return AnswerStates(current, original)
        read_too = batch.rows_of(original_roles)[batch.rows, None]
        before = []
        for place, number in enumerate(blocks):
            if number < len(shared):  # was not run, and gives what it gave before
                before.append(seen[place] * read_too)
            else:
                before.append(_scored(batch, chosen, prefix, outs[place][-len(chosen) :]))
        return AnswerStates(current, original, states, torch.stack(before, dim=1).detach())


def _apart(vlm: VLM, batch: MixedBatch, original_roles: frozenset[Part], blocks: Sequence[int]) -> AnswerStates:
    """Rows that need the whole model by way of it, the others as ever: correct for every family, and slower."""
    whole = torch.tensor([seen is not None and seen.features is None for seen in batch.pictures])
    whole = whole.to(batch.input_ids.device)
    parts: list[AnswerStates] = []
    places: list[Tensor] = []
    for keep, hidden_of in ((whole, _whole_model), (~whole, answer_hidden)):
        if bool(keep.any()):
            part, chosen = batch.subset(keep)
            parts.append(hidden_of(vlm, part, original_roles & frozenset(part.roles), blocks))
            places.append(chosen.nonzero()[:, 0])
    back = torch.cat(places).argsort()

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
    wanted: list[bool] = batch.rows_of(original_roles).tolist()
    groups = [kept for rows in groups if (kept := [row for row in rows if wanted[row]])]
    with torch.no_grad(), vlm.model.disable_adapter():
        original, before = _whole_groups(vlm, batch, groups, blocks)
    return AnswerStates(current, original, seen, before)


def _whole_groups(
    vlm: VLM, batch: MixedBatch, groups: list[list[int]], blocks: Sequence[int]
) -> tuple[Tensor, Tensor | None]:
    with keeping_each(vlm, blocks) as outs:
        states = _scored(batch, groups, 0, [whole_hidden(vlm, _pixels_in(batch, rows)) for rows in groups])
    seen = [_scored(batch, groups, 0, out) for out in outs]
    return states, torch.stack(seen, dim=1) if seen else None


def _pixels_in(batch: MixedBatch, rows: list[int]) -> dict[str, Tensor]:
    """The whole model's inputs for these rows, answers included."""
    mask = batch.attention_mask[rows]
    longest = int(mask.sum(dim=1).max())
    pixels = joined([batch.pictures[row] for row in rows], longest)
    return {"input_ids": batch.input_ids[rows, :longest], "attention_mask": mask[:, :longest], **pixels}


def common_prefix(batch: MixedBatch, lengths: Sequence[int]) -> int:
    """Tokens that begin every row alike, and that come before any picture and the first predicting position."""
    pictures = [int(seen.columns.min()) for seen in batch.pictures if seen is not None]
    limit = min(int(batch.predictors.min()), *lengths, *pictures)
    same = (batch.input_ids[:, :limit] == batch.input_ids[:1, :limit]).all(dim=0)
    return limit if bool(same.all()) else int((~same).nonzero()[0])


def length_groups(lengths: Sequence[int]) -> list[list[int]]:
    """Rows by descending length, cut into groups whose padding stays below `WASTE` of the group's size."""
    groups: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda row: (-lengths[row], row)):
        if groups:
            group = groups[-1]
            size = lengths[group[0]] * (len(group) + 1)
            if size - sum(lengths[member] for member in group) - lengths[row] <= WASTE * size:
                group.append(row)
                continue
        groups.append([row])
    return groups


def _decoded(vlm: VLM, batch: MixedBatch, rows: list[int], prefix: int, cache: DynamicCache | None) -> Tensor:
    """Last hidden states of these rows after the prefix, up to the end of the longest of them."""
    mask = batch.attention_mask[rows]
    longest = int(mask.sum(dim=1).max())
    hidden: Tensor = vlm.decoder(
        **_entering(vlm, batch, rows, prefix, longest),
        attention_mask=mask[:, :longest],
        past_key_values=None if cache is None else _repeated(cache, len(rows)),
        use_cache=cache is not None,
    ).last_hidden_state
    return hidden


def _entering(vlm: VLM, batch: MixedBatch, rows: list[int], prefix: int, longest: int) -> dict[str, Tensor]:
    """What these rows put into the decoder: token ids, or embeddings where a row has a picture."""
    ids = batch.input_ids[rows, prefix:longest]
    placed = [(place, batch.pictures[row]) for place, row in enumerate(rows)] if batch.pictures else []
    pictured = [(place, seen) for place, seen in placed if seen is not None and seen.features is not None]
    if not pictured:
        return {"input_ids": ids}
    places = torch.cat([torch.full_like(seen.columns, place) for place, seen in pictured])
    columns = torch.cat([seen.columns - prefix for _, seen in pictured])
    features = torch.cat([seen.features for _, seen in pictured if seen.features is not None])
    return {"inputs_embeds": with_features(vlm, ids, places, columns, features)}


def _scored(batch: MixedBatch, groups: list[list[int]], prefix: int, outputs: list[Tensor]) -> Tensor:
    """The groups' states at the N predicting positions, [N, H]; zero for rows that stand in no group."""
    hidden = outputs[0].new_zeros(len(batch.targets), outputs[0].shape[-1])
    for group, output in zip(groups, outputs, strict=True):
        place = torch.full((len(batch.roles),), -1, device=hidden.device)
        place[group] = torch.arange(len(group), device=hidden.device)
        scored = (place[batch.rows] >= 0).nonzero()[:, 0]
        picked = output[place[batch.rows[scored]], batch.predictors[scored] - prefix]
        hidden = hidden.index_put((scored,), picked)
    return hidden


def _prefix_states(vlm: VLM, ids: Tensor) -> DynamicCache | None:
    """Keys and values of the common prefix, with gradient; None where the model keeps another kind of cache."""
    cache = vlm.decoder(input_ids=ids, use_cache=True).past_key_values
    plain = type(cache) is DynamicCache and all(type(layer) is DynamicLayer for layer in cache.layers)
    return cache if plain else None


def _repeated(cache: DynamicCache, rows: int) -> DynamicCache:
    """The same keys and values for every row; expanded, not copied, so their gradients add up."""
    repeated = DynamicCache()
    for index, layer in enumerate(cache.layers):
        repeated.update(layer.keys.expand(rows, -1, -1, -1), layer.values.expand(rows, -1, -1, -1), index)
    return repeated
