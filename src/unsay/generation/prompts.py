"""Prompts as model inputs: token ids, batches, and picture features.

The vision tower and the projector are frozen, so a picture's features are the same before and after unlearning and for
every prompt. They are kept in memory, the least recently used dropped first, and not on disk: for the pocket VLM they
take a hundredth of the time that reading the picture and running the language model takes, and a file of them is
larger than the picture.
"""

from collections import OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor

from unsay.data.pictures import read_image
from unsay.errors import UserError
from unsay.files import file_key
from unsay.generation.settings import GenerationSettings
from unsay.models.packing import common_prefix
from unsay.models.vision import on_device
from unsay.models.vlm import VLM
from unsay.records import Prompt

FEATURE_BYTES = 512 * 2**20
"""Bytes of picture features that are kept per model."""

PLAIN_INPUTS = frozenset({"inputs_embeds", "attention_mask", "position_ids", "past_key_values", "use_cache",
                          "cache_position", "return_dict"})  # fmt: skip
"""Arguments of a decoder; if it gets no others, a picture reaches it through the input embeddings alone."""


@dataclass(frozen=True)
class EncodedPrompt:
    """A prompt in the model's chat format.

    Attributes:
        prompt: the row.
        text: the chat format, before a processor expands an image's placeholders.
        ids: all token ids, an image's placeholders included.
        image: content key of the picture, None where there is none.
        begun: the words that the answer begins with, at the end of `text`; empty where the model begins it.
    """

    prompt: Prompt
    text: str
    ids: tuple[int, ...]
    image: str | None
    begun: str = ""


def encode_prompts(
    vlm: VLM, prompts: Sequence[Prompt], settings: GenerationSettings, begun: Mapping[str, str] | None = None
) -> list[EncodedPrompt]:
    """Every prompt in the model's chat format, with its token ids.

    `begun` puts words into the model's mouth: prompt id → what its answer begins with.

    Raises:
        UserError: an image is missing or unreadable, or a prompt is too long for the model.
    """
    rows = []
    for prompt in prompts:
        image = file_key(Path(prompt.image)) if prompt.image is not None else None
        words = (begun or {}).get(prompt.id, "")
        text = _chat_text(vlm, prompt, settings) + (vlm.answer_lead + vlm.escape(words) if words else "")
        row = EncodedPrompt(prompt, text, (), image, words)
        rows.append(replace(row, ids=tuple(model_inputs(vlm, [row])["input_ids"][0].tolist())))
    for row in rows:
        if vlm.context is not None and len(row.ids) + settings.max_new_tokens > vlm.context:
            raise UserError(
                f"suite '{row.prompt.suite}', prompt {row.prompt.id}: {len(row.ids)} tokens and room for "
                f"{settings.max_new_tokens} more do not fit the model's {vlm.context}: shorten the prompt"
            )
    return rows


def fits(vlm: VLM, prompt: Prompt, settings: GenerationSettings) -> bool:
    """Whether a prompt and the longest answer to it fit the model's context."""
    image = file_key(Path(prompt.image)) if prompt.image is not None else None
    row = EncodedPrompt(prompt, _chat_text(vlm, prompt, settings), (), image)
    return vlm.context is None or len(model_inputs(vlm, [row])["input_ids"][0]) + settings.max_new_tokens <= vlm.context


def _chat_text(vlm: VLM, prompt: Prompt, settings: GenerationSettings) -> str:
    turns = [turn.model_copy(update={"text": vlm.escape(turn.text)}) for turn in prompt.turns]
    system = settings.system if prompt.system is None else vlm.escape(prompt.system)
    return vlm.render(vlm.escape(prompt.prompt), image=prompt.image is not None, system=system, turns=turns)


def model_inputs(vlm: VLM, rows: Sequence[EncodedPrompt]) -> Any:
    """The whole model's inputs for these rows, padded on the left; pictures as pixels. All rows have one, or none."""
    vlm.tokenizer.padding_side = "left"
    if vlm.tokenizer.pad_token is None:
        vlm.tokenizer.pad_token = vlm.tokenizer.eos_token  # padding is masked, so any token will do
    texts = [row.text for row in rows]
    if rows[0].image is None:
        return vlm.tokenizer(texts, return_tensors="pt", padding=True, add_special_tokens=False)
    # One list per row: some processors take a flat list for the pictures of a single row.
    images = [[read_image(row.prompt.image)] for row in rows if row.prompt.image is not None]
    return vlm.processor(images=images, text=texts, return_tensors="pt", padding=True, add_special_tokens=False)


def placed_inputs(vlm: VLM, rows: Sequence[EncodedPrompt]) -> dict[str, Tensor]:
    """`model_inputs` where the model is; pixels in its precision, which not every family casts itself."""
    return on_device(vlm, {name: value for name, value in model_inputs(vlm, rows).items() if isinstance(value, Tensor)})


def batches(rows: Sequence[EncodedPrompt], settings: GenerationSettings) -> Iterator[list[EncodedPrompt]]:
    """Prompts of similar length together, images apart from text, each batch filled to the token budget."""

    def order(row: EncodedPrompt) -> tuple[bool, int, str, str]:
        return row.image is not None, len(row.ids), row.image or "", row.prompt.id

    batch: list[EncodedPrompt] = []
    for row in sorted(rows, key=order, reverse=True):
        # Longest first: a batch costs its first row's length, times its rows.
        width = len(batch[0].ids) + settings.max_new_tokens if batch else 0
        full = (len(batch) + 1) * width > settings.batch_tokens
        if batch and (full or (batch[0].image is None) != (row.image is None)):
            yield batch
            batch = []
        batch.append(row)
    if batch:
        yield batch


def shared_prefix(rows: Sequence[EncodedPrompt], placeholder: int | None) -> int:
    """Positions that begin every row alike, pictures included, and leave each row at least one of its own.

    Args:
        rows: the prompts of one batch.
        placeholder: token id that stands for a part of a picture: equal only where the pictures are.
    """
    longest = min(len(row.ids) for row in rows) - 1
    if len({row.image for row in rows}) > 1 and placeholder in rows[0].ids:
        longest = min(longest, rows[0].ids.index(placeholder))
    return common_prefix([row.ids for row in rows], longest)


class NotPlainError(ValueError):
    """The family hands pictures to its language model in another way than as input embeddings."""


class PictureFeatures:
    """Features of pictures by content key, [placeholders, H] each; one store per model object."""

    def __init__(self, weights: tuple[object, ...], limit: int = FEATURE_BYTES) -> None:
        self.weights, self.limit, self.size = weights, limit, 0
        self._kept: OrderedDict[str, Tensor] = OrderedDict()

    def of(self, vlm: VLM, rows: Sequence[EncodedPrompt]) -> dict[str, Tensor]:
        """The features of these rows' pictures; those not known yet pass the vision tower together.

        Raises:
            NotPlainError: pictures reach the language model in another way.
        """
        wanted = {row.image: row for row in rows if row.image is not None}
        features = {key: self._kept[key] for key in wanted if key in self._kept}
        if missing := [row for key, row in wanted.items() if key not in features]:
            features.update(_compute_features(vlm, missing))
        for key, value in features.items():
            if key not in self._kept:
                self.size += value.nbytes
            self._kept[key] = value
            self._kept.move_to_end(key)
        while self.size > self.limit and self._kept:
            self.size -= self._kept.popitem(last=False)[1].nbytes
        return features


_STORES: "WeakKeyDictionary[Any, PictureFeatures]" = WeakKeyDictionary()


def feature_store(vlm: VLM) -> PictureFeatures:
    """The store of a model; a new one if its vision weights were changed in place, replaced or adapted."""
    language = {id(parameter) for parameter in vlm.decoder.parameters()}
    vision = [parameter for parameter in vlm.base.parameters() if id(parameter) not in language]
    # `vision_key` tells adapters apart: a new adapter's weights may lie at the same address as the last one's.
    weights = (*vlm.vision_key, *((parameter.data_ptr(), parameter._version) for parameter in vision))
    store = _STORES.get(vlm.base)
    if store is None or store.weights != weights:
        store = _STORES[vlm.base] = PictureFeatures(weights)
    return store


class _CapturedError(Exception):
    """Ends a forward pass where the language model would begin."""


def _compute_features(vlm: VLM, rows: Sequence[EncodedPrompt]) -> dict[str, Tensor]:
    inputs = placed_inputs(vlm, rows)
    with _capture_embeddings(vlm) as captured, suppress(_CapturedError):
        vlm.base(**inputs, use_cache=False)
    if not captured:
        raise NotPlainError("the decoder was given no input embeddings")
    embeddings, picture = captured[0], inputs["input_ids"] == vlm.base.config.image_token_id
    # Cloned: a view would keep the whole batch's embeddings alive.
    return {str(row.image): embeddings[place][picture[place]].clone() for place, row in enumerate(rows)}


@contextmanager
def _capture_embeddings(vlm: VLM) -> Iterator[list[Tensor]]:
    """While active, a forward pass stops at the language model and leaves its input embeddings in the list."""
    captured: list[Tensor] = []

    def capture(_module: Any, arguments: tuple[Any, ...], inputs: dict[str, Any]) -> None:
        positions = inputs.get("position_ids")
        others = [
            name
            for name, value in inputs.items()
            if name not in PLAIN_INPUTS and value is not None and value is not False
        ]
        if arguments or others or inputs.get("inputs_embeds") is None or (positions is not None and positions.ndim > 2):
            raise NotPlainError(f"the decoder was given {', '.join(others) or 'something else than embeddings'}")
        captured.append(inputs["inputs_embeds"])
        raise _CapturedError

    handle = vlm.decoder.register_forward_pre_hook(capture, with_kwargs=True)
    try:
        yield captured
    finally:
        handle.remove()
