"""Prompts as model inputs: token ids, batches, and picture features.

Prompts as the model reads them, and which of them go together.

What a picture becomes in the language model's input, computed once per picture.

The vision tower and the projector are frozen, so a picture's features are the same before and after unlearning and
whatever is asked about it; an adapter from elsewhere that changes them, too, has features of its own. They are kept in
memory, least recently used first out. They are not kept on disk: for the pocket VLM computing them takes less than
reading the picture and putting it through the language model by two orders, and a file of them is larger than the
picture.
"""

from collections import OrderedDict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor

from unsay.data.pictures import read_image
from unsay.errors import UserError
from unsay.files import file_key
from unsay.generation.settings import GenerationSettings
from unsay.models.vlm import VLM
from unsay.records import Prompt

MIN_PREFIX = 8
"""Tokens: a shorter common prefix is not worth a forward of its own."""


@dataclass(frozen=True)
class Asked:
    """A prompt in the chat format.

    Attributes:
        prompt: the row.
        text: the chat format, before any processor has put an image's placeholders in.
        ids: all token ids, an image's placeholders included.
        image: content key of the picture, None where there is none.
    """

    prompt: Prompt
    text: str
    ids: tuple[int, ...]
    image: str | None


def ask(vlm: VLM, prompts: Sequence[Prompt], settings: GenerationSettings) -> list[Asked]:
    """Every prompt in the model's chat format.

    Raises:
        UserError: an image is missing or unreadable, or a prompt is too long for the model.
    """
    asked = []
    for prompt in prompts:
        text = _rendered(vlm, prompt, settings)
        key = file_key(Path(prompt.image)) if prompt.image is not None else None
        row = Asked(prompt, text, (), key)
        ids = model_inputs(vlm, [row])["input_ids"][0].tolist()
        asked.append(Asked(prompt, text, tuple(ids), key))
    _check_lengths(vlm, asked, settings)
    return asked


def _rendered(vlm: VLM, prompt: Prompt, settings: GenerationSettings) -> str:
    turns = [turn.model_copy(update={"text": vlm.typed(turn.text)}) for turn in prompt.turns]
    system = settings.system if prompt.system is None else vlm.typed(prompt.system)
    return vlm.render(vlm.typed(prompt.prompt), image=prompt.image is not None, system=system, turns=turns)


def model_inputs(vlm: VLM, rows: Sequence[Asked]) -> Any:
    """What the whole model takes for these rows, padded on the left: pictures as pixels, if there are any."""
    vlm.tokenizer.padding_side = "left"
    texts = [row.text for row in rows]
    if rows[0].image is None:
        return vlm.tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
    # One list per row: some processors take a flat list for the pictures of a single row.
    images = [[read_image(row.prompt.image)] for row in rows if row.prompt.image is not None]
    return vlm.processor(images=images, text=texts, return_tensors="pt", padding=True, add_special_tokens=False)


def batches(asked: Sequence[Asked], settings: GenerationSettings) -> Iterator[list[Asked]]:
    """Prompts of like length together, images apart from text, each batch filled to the token budget."""
    batch: list[Asked] = []

    def order(row: Asked) -> tuple[bool, int, str, str]:
        return row.image is not None, len(row.ids), row.image or "", row.prompt.id

    for row in sorted(asked, key=order, reverse=True):
        # Sorted longest first: a batch costs its first row's length, times its rows.
        width = len(batch[0].ids) + settings.max_new_tokens if batch else 0
        full = (len(batch) + 1) * width > settings.batch_tokens
        if batch and (full or (batch[0].image is None) != (row.image is None)):
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def common_prefix(rows: Sequence[Asked], placeholder: int | None) -> int:
    """Positions that begin every row alike, pictures included, and leave each row at least one of its own.

    Args:
        rows: what is asked.
        placeholder: token id that stands for a part of a picture: equal only where the pictures are.
    """
    limit = min(len(row.ids) for row in rows) - 1
    first = rows[0]
    same_picture = all(row.image == first.image for row in rows)
    for position in range(limit):
        token = first.ids[position]
        if any(row.ids[position] != token for row in rows) or (token == placeholder and not same_picture):
            return position if position >= MIN_PREFIX else 0
    return limit if limit >= MIN_PREFIX else 0


def _check_lengths(vlm: VLM, asked: Sequence[Asked], settings: GenerationSettings) -> None:
    most = vlm.context
    for row in asked:
        if most is not None and len(row.ids) + settings.max_new_tokens > most:
            raise UserError(
                f"suite '{row.prompt.suite}', prompt {row.prompt.id}: {len(row.ids)} tokens and room for "
                f"{settings.max_new_tokens} more do not fit the model's {most}: shorten the prompt"
            )


__all__ = ["Asked", "ask", "batches", "common_prefix", "model_inputs"]


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
