"""Prompts as the model reads them, and which of them go together."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unsay.data.images import read_image
from unsay.errors import UserError
from unsay.files import file_key
from unsay.models.vlm import VLM
from unsay.records import Prompt
from unsay.responding.settings import GenerationSettings

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
