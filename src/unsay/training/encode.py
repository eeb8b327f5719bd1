"""Examples as token ids, and mixed batches of them."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import accumulate
from typing import overload

import torch
from torch import Tensor

from unsay.data.pictures import pixel_key, read_image
from unsay.errors import UserError
from unsay.methods.base import Part
from unsay.models.packing import common_prefix
from unsay.models.vlm import VLM
from unsay.records import Example
from unsay.training.companions import part_of
from unsay.training.picture_inputs import Picture, Seen
from unsay.training.settings import TrainSettings


@dataclass(frozen=True)
class Encoded:
    """One example as token ids: the prompt in the chat format with what is given of the answer, then what is scored."""

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
        max_prompt_tokens: a longer prompt is an error, because a cut one would be another prompt; a picture's tokens
            and those given of the answer do not count.
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
    words = len(prompt) - (len(picture.columns) if picture is not None else 0)
    if words > max_prompt_tokens:
        raise UserError(
            f"example {example.id}: its prompt has {words} tokens, the limit is {max_prompt_tokens} "
            "(train.max_prompt_tokens)"
        )
    given, answer = vlm.encode_continuation(example.prefix or "", example.answer)
    if not example.complete:
        answer = answer[: len(answer) - len(vlm.answer_end)]
    if not example.answer.strip() or not answer:
        raise UserError(f"example {example.id}: its answer is empty")
    encoded = Encoded(example.id, part_of(example), (*prompt, *given), tuple(answer[:max_answer_tokens]), picture)
    _check_room(vlm, encoded)
    return encoded


def answer_tokens(vlm: VLM, examples: Iterable[Example]) -> dict[str, list[int]]:
    """Tokens of every answer, its end included, by role: one longer than `max_answer_tokens` loses its end.

    An answer that was cut off when it was generated counts 0, because it has no end to lose.
    """
    lengths: dict[str, list[int]] = {}
    for example in examples:
        length = len(vlm.encode_continuation(example.prefix or "", example.answer)[1]) if example.complete else 0
        lengths.setdefault(example.role.value, []).append(length)
    return lengths


def _pictured(vlm: VLM, example: Example) -> tuple[list[int], Picture]:
    """Token ids of the prompt with its picture, as the model's own processor lays them out, and the picture's place."""
    assert example.image is not None
    placeholder = getattr(vlm.processor, "image_token", None)
    if isinstance(placeholder, str) and placeholder and placeholder in f"{example.prefix}{example.answer}":
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
class Added:
    """What is added to the hidden states of N tokens, in a pass of the current model.

    Attributes:
        states: number of a block → what is added to its output, [N, H].
        places: row and column of each token.
        lengths: number of a block → the length of each token's state before the addition, [N]; filled by each pass.
            Those of some rows fill the whole's, [M].
        kept: of some rows, the number of each token in the whole's lengths, [N].
    """

    states: Mapping[int, Tensor]
    places: tuple[tuple[int, int], ...]
    lengths: Mapping[int, Tensor]
    kept: Tensor | None = None

    @property
    def first(self) -> int:
        """The lowest column: a prefix that rows share ends there at the latest."""
        return min(column for _, column in self.places)

    def of_rows(self, rows: Sequence[int]) -> "Added | None":
        """The same for some rows, numbered anew; None if there is nothing to add to them."""
        numbers = {row: number for number, row in enumerate(rows)}
        kept = [place for place, (row, _) in enumerate(self.places) if row in numbers]
        if not kept:
            return None
        states = {block: state[kept] for block, state in self.states.items()}
        places = tuple((numbers[self.places[place][0]], self.places[place][1]) for place in kept)
        chosen = torch.tensor(kept)
        return Added(states, places, self.lengths, chosen if self.kept is None else self.kept[chosen])

    def note(self, block: int, numbers: Tensor, lengths: Tensor) -> None:
        """Take down the lengths of these tokens' states, [n], by their numbers, [n]."""
        places = numbers if self.kept is None else self.kept.to(numbers.device)[numbers]
        self.lengths[block].index_copy_(0, places, lengths.to(places.device))


@dataclass(frozen=True)
class MixedBatch:
    """All roles in one right-padded batch of B rows and L columns; N answer tokens in all.

    Lengths, places and counts are taken from the rows on the host, so that no step waits for an accelerator to learn
    the sizes of its own tensors.

    Attributes:
        examples: the rows.
        input_ids: [B, L].
        attention_mask: [B, L], 1 on real tokens.
        rows: batch row of each scored token, [N].
        predictors: column of the hidden state that predicts each scored token, [N].
        columns: position of each scored token in its answer, [N].
        targets: the scored tokens, [N].
        pictures: the picture of each row, or None; empty where no row has one.
        added: what an adversary adds to hidden states, if there is one.
    """

    examples: tuple[Encoded, ...]
    input_ids: Tensor
    attention_mask: Tensor
    rows: Tensor
    predictors: Tensor
    columns: Tensor
    targets: Tensor
    pictures: tuple[Seen | None, ...] = ()
    added: Added | None = None

    @property
    def roles(self) -> tuple[Part, ...]:
        """The role of each row, or the kind of companion it is."""
        return tuple(example.role for example in self.examples)

    @property
    def tokens(self) -> int:
        """Real tokens, those of pictures included; padding does not count."""
        return sum(example.length for example in self.examples)

    @property
    def image_tokens(self) -> int:
        """Tokens of pictures."""
        return sum(len(seen.columns) for seen in self.pictures if seen is not None)

    @property
    def whole(self) -> int:
        """Number of rows that need a forward of the whole model, pixels included."""
        return sum(seen is not None and seen.features is None for seen in self.pictures)

    def to(self, device: torch.device) -> "MixedBatch":
        """The same batch on a device."""
        tensors = (self.input_ids, self.attention_mask, self.rows, self.predictors, self.columns, self.targets)
        ids, mask, rows, predictors, columns, targets = (tensor.to(device, non_blocking=True) for tensor in tensors)
        pictures = tuple(None if seen is None else seen.to(device) for seen in self.pictures)
        return MixedBatch(self.examples, ids, mask, rows, predictors, columns, targets, pictures, self.added)

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
        part = _padded([self.examples[row] for row in chosen], pictures).to(self.input_ids.device)
        return part if self.added is None else replace(part, added=self.added.of_rows(chosen))


def collate(examples: Sequence[Encoded], see: Callable[[Picture], Seen] | None = None) -> MixedBatch:
    """Right-pad to the longest example; padded positions are masked and never scored, so their id does not matter."""
    if all(example.picture is None for example in examples):
        return _padded(examples, ())
    if see is None:
        raise UserError("an example has a picture; only text examples are taken here")
    return _padded(examples, tuple(None if row.picture is None else see(row.picture) for row in examples))


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


def shared_prefix(rows: Sequence[Encoded], added: Added | None = None) -> int:
    """Tokens that begin every row and are read alike in all of them; 0 where too few to pay.

    They end before any picture, the first predicting position and the first token that something is added to.
    """
    limits = [len(row.prompt_ids) - 1 for row in rows]
    limits += [min(row.picture.columns) for row in rows if row.picture is not None and row.picture.columns]
    limits += [] if added is None else [added.first]
    return common_prefix([row.prompt_ids for row in rows], min(limits))


def read_lengths(rows: Sequence[Encoded]) -> list[int]:
    """Tokens of each row that the model reads: all but the last, which is only predicted."""
    return [row.length - 1 for row in rows]


class Encoder:
    """A run's examples as token ids; each is encoded once.

    Text is encoded at once, so that mistakes show before training starts. A picture is laid out when its step comes,
    while the run's clock is running: that takes time, and a budget may end the run before.
    """

    def __init__(self, vlm: VLM, examples: Sequence[Example], settings: TrainSettings) -> None:
        """Encode the examples without a picture."""
        self.vlm, self.settings = vlm, settings
        self._known: dict[str, Encoded] = {}
        for example in examples:
            if example.image is None:
                self.of(example)

    def of(self, example: Example) -> Encoded:
        """One example."""
        if example.id not in self._known:
            self._known[example.id] = encode(
                self.vlm,
                example,
                max_prompt_tokens=self.settings.max_prompt_tokens,
                max_answer_tokens=self.settings.max_answer_tokens,
            )
        return self._known[example.id]


class Batches(Sequence[list[Encoded]]):
    """Batches of examples, encoded when one is looked at."""

    def __init__(self, encoder: Encoder, batches: Sequence[Sequence[Example]]) -> None:
        self._encoder, self._batches = encoder, batches

    def __len__(self) -> int:
        return len(self._batches)

    @overload
    def __getitem__(self, index: int) -> list[Encoded]: ...
    @overload
    def __getitem__(self, index: slice) -> list[list[Encoded]]: ...
    def __getitem__(self, index: int | slice) -> list[Encoded] | list[list[Encoded]]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        return [self._encoder.of(example) for example in self._batches[index]]


def split(examples: Sequence[Encoded], count: int) -> list[list[Encoded]]:
    """`count` equal parts of a batch: row i of every role, and of every companion, goes to part i % count.

    Row i of a companion belongs to row i of its role, so what is compared stays together. Every loss is a mean over the
    rows of its role, so the mean over the parts is the loss of the whole batch.
    """
    parts: list[list[Encoded]] = [[] for _ in range(count)]
    seen: dict[Part, int] = {}
    for example in examples:
        place = seen.get(example.role, 0)
        parts[place % count].append(example)
        seen[example.role] = place + 1
    return parts
