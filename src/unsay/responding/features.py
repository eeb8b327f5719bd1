"""What a picture becomes in the language model's input, computed once per picture.

The vision tower and the projector are frozen, so a picture's features are the same before and after unlearning and
whatever is asked about it; an adapter from elsewhere that changes them, too, has features of its own. They are kept in
memory, least recently used first out. They are not kept on disk: for the pocket VLM computing them takes less than
reading the picture and putting it through the language model by two orders, and a file of them is larger than the
picture.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor

from unsay.models.vlm import VLM
from unsay.responding.asked import Asked, model_inputs

LIMIT = 512 * 2**20
"""Bytes of features that are kept per model."""

ORDINARY = frozenset({"inputs_embeds", "attention_mask", "position_ids", "past_key_values", "use_cache",
                      "cache_position", "return_dict"})  # fmt: skip
"""What a decoder may be given beside which nothing of a picture reaches it."""


class NotPlainError(ValueError):
    """The family hands pictures to its language model in another way than as input embeddings."""


class _CapturedError(Exception):
    """Ends a forward pass where the language model would begin."""


class Features:
    """Features of pictures by content key, [placeholders, H] each; one store per model object."""

    def __init__(self, weights: tuple[object, ...], limit: int = LIMIT) -> None:
        self.weights, self.limit, self.size = weights, limit, 0
        self._kept: OrderedDict[str, Tensor] = OrderedDict()

    def of(self, vlm: VLM, rows: Sequence[Asked]) -> dict[str, Tensor]:
        """The features of these rows' pictures; those not known yet pass the vision tower together.

        Raises:
            NotPlainError: see there.
        """
        wanted = {row.image: row for row in rows if row.image is not None}
        found = {key: self._kept[key] for key in wanted if key in self._kept}
        if missing := [row for key, row in wanted.items() if key not in found]:
            computed = _computed(vlm, missing)
            found.update(computed)
        for key, value in found.items():
            if key not in self._kept:
                self.size += value.nbytes
            self._kept[key] = value
            self._kept.move_to_end(key)
        while self.size > self.limit and self._kept:
            self.size -= self._kept.popitem(last=False)[1].nbytes
        return found


_STORES: "WeakKeyDictionary[Any, Features]" = WeakKeyDictionary()


def features_of(vlm: VLM) -> Features:
    """The store of a model; emptied when its vision weights were changed in place, or replaced, or others are added."""
    language = {id(parameter) for parameter in vlm.decoder.parameters()}
    seeing = [parameter for parameter in vlm.base.parameters() if id(parameter) not in language]
    # An adapter's weights may come to lie where the last one's were: by their places they would be the same.
    weights = (*vlm.sight, *((parameter.data_ptr(), parameter._version) for parameter in seeing))
    store = _STORES.get(vlm.base)
    if store is None or store.weights != weights:
        store = _STORES[vlm.base] = Features(weights)
    return store


def _computed(vlm: VLM, rows: Sequence[Asked]) -> dict[str, Tensor]:
    inputs = model_inputs(vlm, rows).to(vlm.device)
    with _captured(vlm) as seen, suppress(_CapturedError):
        vlm.base(**inputs, use_cache=False)
    if not seen:
        raise NotPlainError("the decoder was given no input embeddings")
    embeddings, picture = seen[0], inputs["input_ids"] == vlm.base.config.image_token_id
    # Cloned: a view would keep the whole batch's embeddings alive.
    return {str(row.image): embeddings[place][picture[place]].clone() for place, row in enumerate(rows)}


@contextmanager
def _captured(vlm: VLM) -> Iterator[list[Tensor]]:
    """While this holds, a forward pass ends where the language model begins, and leaves what it would have read."""
    seen: list[Tensor] = []

    def capture(_module: Any, arguments: tuple[Any, ...], given: dict[str, Any]) -> None:
        positions = given.get("position_ids")
        odd = [
            name for name, value in given.items() if name not in ORDINARY and value is not None and value is not False
        ]
        if arguments or odd or given.get("inputs_embeds") is None or (positions is not None and positions.ndim > 2):
            raise NotPlainError(f"the decoder was given {', '.join(odd) or 'something else than embeddings'}")
        seen.append(given["inputs_embeds"])
        raise _CapturedError

    handle = vlm.decoder.register_forward_pre_hook(capture, with_kwargs=True)
    try:
        yield seen
    finally:
        handle.remove()


__all__ = ["Features", "NotPlainError", "features_of"]
