"""Examples as token ids, mixed batches of them, and what the rows of a batch share.

Examples as token ids, and mixed batches of them.

What rows of a batch have in common, and which of them are of like length; told on the host, from token ids.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate

import torch
from torch import Tensor

from unsay.data.pictures import pixel_key, read_image
from unsay.errors import UserError
from unsay.methods.base import Part
from unsay.models.vlm import VLM
from unsay.records import Example
from unsay.training.companions import part_of
from unsay.training.vision import Picture, Seen


@dataclass(frozen=True)
class Encoded:
    """One example as token ids: the prompt in the chat format, then exactly the tokens that are scored."""

    id: str
    role: Part
    prompt_ids: tuple[int, ...]
    answer_ids: tuple[int, ...]
    picture: Picture | None = None

    @property
    def length(self) -> int:
        """Tokens in all."""
        return len(self.prompt_ids) + len(self.answer_ids)


def encode(vlm: VLM, example: Example, *, max_prompt_tokens: int, max_answer_tokens: int) -> Encoded:
    """Tokenise prompt and answer apart, so that no token spans their border.

    An answer that is longer than `max_answer_tokens` (its end counted), or that was cut off when it was made, is
    scored without an end token: the model must not learn to stop there.

    Args:
        vlm: gives the tokenizer, the chat format and, for pictures, the processor.
        example: with or without an image.
        max_prompt_tokens: a longer prompt is an error, for a cut one would ask something else; a picture's tokens do
            not count.
        max_answer_tokens: a longer answer is cut.

    Raises:
        UserError: the prompt is too long, the answer is empty, the image is missing or unreadable, or the answer
            spells the model's image placeholder.
    """
    picture = None
    if example.image is None:
        prompt = vlm.encode_prompt(example.prompt)
    else:
        prompt, picture = _pictured(vlm, example)
    answer = vlm.encode_answer(example.answer)
    if not example.complete:
        answer = answer[: len(answer) - len(vlm.answer_end)]
    words = len(prompt) - (len(picture.columns) if picture is not None else 0)
    if words > max_prompt_tokens:
        raise UserError(
            f"example {example.id}: its prompt has {words} tokens, the limit is {max_prompt_tokens} "
            "(train.max_prompt_tokens)"
        )
    if not example.answer.strip() or not answer:
        raise UserError(f"example {example.id}: its answer is empty")
    encoded = Encoded(example.id, part_of(example), tuple(prompt), tuple(answer[:max_answer_tokens]), picture)
    _check_room(vlm, encoded)
    return encoded


def answer_tokens(vlm: VLM, examples: Iterable[Example]) -> dict[str, list[int]]:
    """Tokens of every answer, its end counted, by role: what is longer than `max_answer_tokens` loses its end.

    An answer that was cut off when it was made counts 0, for it has no end to lose.
    """
    lengths: dict[str, list[int]] = {}
    for example in examples:
        length = len(vlm.encode_answer(example.answer)) if example.complete else 0
        lengths.setdefault(example.role.value, []).append(length)
    return lengths


def _pictured(vlm: VLM, example: Example) -> tuple[list[int], Picture]:
    """Token ids of the prompt with its picture, as the model's own processor lays them out, and the picture's place."""
    assert example.image is not None
    spelled = getattr(vlm.processor, "image_token", None)
    if isinstance(spelled, str) and spelled and spelled in example.answer:
        raise UserError(
            f"example {example.id}: its answer spells the model's image placeholder; only its picture may stand there"
        )
    try:
        image = read_image(example.image)
        ids: list[int] = vlm.encode_picture(example.prompt, image)["input_ids"][0].tolist()
    except UserError as error:
        raise UserError(f"example {example.id}: {error}") from None
    columns = tuple(column for column, token in enumerate(ids) if token == vlm.image_token_id)
    return ids, Picture(example.image, pixel_key(image), example.prompt, columns)


def _check_room(vlm: VLM, encoded: Encoded) -> None:
    if vlm.context is not None and encoded.length > vlm.context:
        seen = f", {len(encoded.picture.columns)} of them its picture's," if encoded.picture is not None else ""
        raise UserError(
            f"example {encoded.id}: {encoded.length} tokens{seen} do not fit the model's {vlm.context}: "
            + ("shorten the prompt, or take a smaller picture" if seen else "shorten the prompt or the answer")
        )


@dataclass(frozen=True)
class MixedBatch:
    """All roles in one right-padded batch of B rows and L columns; N answer tokens in all.

    What the rows are is known on the host: lengths, places and counts are taken from there, so that no step waits for
    an accelerator to say how large its own tensors are.

    Attributes:
        examples: the rows.
        input_ids: [B, L].
        attention_mask: [B, L], 1 on real tokens.
        rows: batch row of each scored token, [N].
        predictors: column of the hidden state that predicts each scored token, [N].
        columns: position of each scored token in its answer, [N].
        targets: the scored tokens, [N].
        pictures: the picture of each row, or None; empty where no row has one.
    """

    examples: tuple[Encoded, ...]
    input_ids: Tensor
    attention_mask: Tensor
    rows: Tensor
    predictors: Tensor
    columns: Tensor
    targets: Tensor
    pictures: tuple[Seen | None, ...] = ()

    @property
    def roles(self) -> tuple[Part, ...]:
        """The role of each row, or what it is companion as."""
        return tuple(example.role for example in self.examples)

    @property
    def tokens(self) -> int:
        """Real tokens, those of pictures too, padding not counted."""
        return sum(example.length for example in self.examples)

    @property
    def image_tokens(self) -> int:
        """How many of the tokens are pictures'."""
        return sum(len(seen.columns) for seen in self.pictures if seen is not None)

    @property
    def whole(self) -> int:
        """Rows that need a forward of the whole model, pixels included."""
        return sum(seen is not None and seen.features is None for seen in self.pictures)

    def to(self, device: torch.device) -> "MixedBatch":
        """The same batch on a device."""
        tensors = (self.input_ids, self.attention_mask, self.rows, self.predictors, self.columns, self.targets)
        ids, mask, rows, predictors, columns, targets = (tensor.to(device, non_blocking=True) for tensor in tensors)
        pictures = tuple(None if seen is None else seen.to(device) for seen in self.pictures)
        return MixedBatch(self.examples, ids, mask, rows, predictors, columns, targets, pictures)

    def rows_of(self, roles: frozenset[Part]) -> list[bool]:
        """Which rows have one of these roles."""
        return [example.role in roles for example in self.examples]

    @cached_property
    def _first(self) -> list[int]:
        """Number of each row's first scored token, and N."""
        return list(accumulate((len(example.answer_ids) for example in self.examples), initial=0))

    def scored(self, row: int) -> range:
        """Which of the N scored tokens are a row's."""
        return range(self._first[row], self._first[row + 1])

    def scored_in(self, roles: frozenset[Part]) -> list[int]:
        """Which of the N scored tokens stand in rows with one of these roles, in order."""
        return [n for row, wanted in enumerate(self.rows_of(roles)) if wanted for n in self.scored(row)]

    def predicting(self, row: int) -> range:
        """The columns whose hidden states predict a row's scored tokens."""
        example = self.examples[row]
        return range(len(example.prompt_ids) - 1, example.length - 1)

    def index(self, values: Sequence[int]) -> Tensor:
        """Numbers from the host as an index on the batch's device."""
        return torch.tensor(values, dtype=torch.long).to(self.input_ids.device, non_blocking=True)

    def subset(self, keep: Sequence[bool]) -> "MixedBatch":
        """The rows where `keep`, padded to the longest of them."""
        chosen = [row for row, kept in enumerate(keep) if kept]
        pictures = tuple(self.pictures[row] for row in chosen) if self.pictures else ()
        return _padded([self.examples[row] for row in chosen], pictures).to(self.input_ids.device)


def collate(examples: Sequence[Encoded], see: Callable[[Picture], Seen] | None = None) -> MixedBatch:
    """Right-pad to the longest example; padded positions are masked and never scored, so their id is of no account.

    Args:
        examples: the rows.
        see: makes of a picture what enters the forward pass; not needed where no example has one.
    """
    return _padded(examples, _seen(examples, see))


def _padded(examples: Sequence[Encoded], pictures: tuple[Seen | None, ...]) -> MixedBatch:
    longest = max((example.length for example in examples), default=0)
    input_ids = torch.zeros(len(examples), longest, dtype=torch.long)
    attention_mask = torch.zeros(len(examples), longest, dtype=torch.long)
    rows, predictors, columns, targets = [], [], [], []
    for row, example in enumerate(examples):
        ids = example.prompt_ids + example.answer_ids
        input_ids[row, : len(ids)] = torch.tensor(ids)
        attention_mask[row, : len(ids)] = 1
        start = len(example.prompt_ids)
        for column, target in enumerate(example.answer_ids):
            rows.append(row)
            predictors.append(start + column - 1)
            columns.append(column)
            targets.append(target)
    return MixedBatch(
        tuple(examples),
        input_ids,
        attention_mask,
        torch.tensor(rows, dtype=torch.long),
        torch.tensor(predictors, dtype=torch.long),
        torch.tensor(columns, dtype=torch.long),
        torch.tensor(targets, dtype=torch.long),
        pictures,
    )


def _seen(examples: Sequence[Encoded], see: Callable[[Picture], Seen] | None) -> tuple[Seen | None, ...]:
    if all(example.picture is None for example in examples):
        return ()
    if see is None:
        raise UserError("an example has a picture; text examples alone are taken here")
    return tuple(None if example.picture is None else see(example.picture) for example in examples)


WASTE = 0.15
"""Padding that a group may have, as a share of its size, before another group is begun."""

MIN_PREFIX = 8
"""Tokens: a shorter common prefix is not worth a forward of its own."""


def common_prefix(rows: Sequence[Encoded]) -> int:
    """Tokens that begin every row alike, and that come before any picture and the first predicting position.

    Zero where they are too few to be worth anything.
    """
    limit = min(len(row.prompt_ids) - 1 for row in rows)
    limit = min([limit, *(min(row.picture.columns) for row in rows if row.picture is not None and row.picture.columns)])
    for place, tokens in enumerate(zip(*(row.prompt_ids[:limit] for row in rows), strict=True)):
        if len(set(tokens)) > 1:
            limit = place
            break
    return limit if limit >= MIN_PREFIX else 0


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


def read_lengths(rows: Sequence[Encoded]) -> list[int]:
    """How much of each row is read: all but its last token, which is only predicted."""
    return [row.length - 1 for row in rows]


def attention_groups(lengths: Sequence[int], on_cpu: bool) -> list[list[int]]:
    """Rows that go through attention side by side.

    A group costs little arithmetic but many launches: worth it on a CPU, not on an accelerator.
    """
    return length_groups(lengths) if on_cpu else [list(range(len(lengths)))]
