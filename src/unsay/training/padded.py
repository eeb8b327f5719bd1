"""Groups of rows that are padded to the longest of each: for decoders that do not take packed rows.

The common prefix is computed once, and its keys and values are shared by all rows, where the family keeps plain ones.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from transformers.cache_utils import DynamicCache, DynamicLayer

from unsay.methods.base import Part
from unsay.models.sharing import keeping, starting_after
from unsay.models.vision import with_features
from unsay.models.vlm import VLM
from unsay.training.encoding import MixedBatch
from unsay.training.hidden import keeping_each
from unsay.training.lengths import attention_groups, common_prefix, read_lengths
from unsay.training.states import AnswerStates, read_by, scored


def padded_hidden(vlm: VLM, batch: MixedBatch, original_roles: frozenset[Part], blocks: Sequence[int]) -> AnswerStates:
    """`answer_hidden` of rows without pixels, by padded groups."""
    lengths = read_lengths(batch.examples)
    prefix = 0 if vlm.uniform else common_prefix(batch.examples)
    shared = vlm.layers[: vlm.shared_layers]
    with keeping(shared) as kept, keeping_each(vlm, blocks) as outs:
        cache = _prefix_states(vlm, batch.input_ids[:1, :prefix]) if prefix else None
        if cache is not None and any(layer.keys is None for layer in cache.layers):
            cache = None  # cross attention, without a picture, keeps nothing
        prefix = prefix if cache is not None else 0
        groups = attention_groups([n - prefix for n in lengths], vlm.device.type == "cpu" and not vlm.uniform)
        current = scored(batch, groups, prefix, [_decoded(vlm, batch, rows, prefix, cache) for rows in groups])
    # The prefix, where it was read alone, came first.
    seen = [scored(batch, groups, prefix, out[-len(groups) :]) for out in outs]
    states = torch.stack(seen, dim=1) if seen else None
    if not original_roles:
        return AnswerStates(current, blocks=states)

    wanted = batch.rows_of(original_roles)
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
        original = scored(batch, chosen, prefix, outputs)
        if states is None:
            return AnswerStates(current, original)
        before = [
            # A shared block was not run, and gives what it gave before.
            seen[place] if number < len(shared) else scored(batch, chosen, prefix, outs[place][-len(chosen) :])
            for place, number in enumerate(blocks)
        ]
        return AnswerStates(current, original, states, read_by(batch, original_roles, before))


def _decoded(vlm: VLM, batch: MixedBatch, rows: list[int], prefix: int, cache: DynamicCache | None) -> Tensor:
    """Last hidden states of these rows after the prefix, up to the last predicting position of the longest of them."""
    longest = max(read_lengths([batch.examples[row] for row in rows]))
    hidden: Tensor = vlm.decoder(
        **_entering(vlm, batch, rows, prefix, longest),
        attention_mask=batch.attention_mask[rows, :longest],
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
