"""Examples as token ids, and mixed batches of them."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from unsay.errors import UserError
from unsay.methods.base import Part
from unsay.models.vlm import VLM
from unsay.records import Example
from unsay.training.companions import part_of


@dataclass(frozen=True)
class Encoded:
    """One example as token ids: the prompt in the chat format, then exactly the tokens that are scored."""

    id: str
    role: Part
    prompt_ids: tuple[int, ...]
    answer_ids: tuple[int, ...]

    @property
    def length(self) -> int:
        """Tokens in all."""
        return len(self.prompt_ids) + len(self.answer_ids)


def encode(vlm: VLM, example: Example, *, max_prompt_tokens: int, max_answer_tokens: int) -> Encoded:
    """Tokenise prompt and answer apart, so that no token spans their border.

    An answer that is longer than `max_answer_tokens` (its end counted), or that was cut off when it was made, is
    scored without an end token: the model must not learn to stop there.

    Args:
        vlm: gives the tokenizer and the chat format.
        example: a text example.
        max_prompt_tokens: a longer prompt is an error, for a cut one would ask something else.
        max_answer_tokens: a longer answer is cut.

    Raises:
        UserError: the prompt is too long, the answer is empty, or the example has an image.
    """
    if example.image is not None:
        raise UserError(f"example {example.id}: has an image; text-only training takes text examples")
    prompt = vlm.encode_prompt(example.prompt)
    answer = vlm.encode_answer(example.answer)
    if not example.complete:
        answer = answer[: len(answer) - len(vlm.answer_end)]
    if len(prompt) > max_prompt_tokens:
        raise UserError(
            f"example {example.id}: its prompt has {len(prompt)} tokens, the limit is {max_prompt_tokens} "
            "(train.max_prompt_tokens)"
        )
    if not example.answer.strip() or not answer:
        raise UserError(f"example {example.id}: its answer is empty")
    return Encoded(example.id, part_of(example), tuple(prompt), tuple(answer[:max_answer_tokens]))


@dataclass(frozen=True)
class MixedBatch:
    """All roles in one right-padded batch of B rows and L columns; N answer tokens in all.

    Attributes:
        roles: the role of each row, or what it is companion as.
        input_ids: [B, L].
        attention_mask: [B, L], 1 on real tokens.
        rows: batch row of each scored token, [N].
        predictors: column of the hidden state that predicts each scored token, [N].
        columns: position of each scored token in its answer, [N].
        targets: the scored tokens, [N].
    """

    roles: tuple[Part, ...]
    input_ids: Tensor
    attention_mask: Tensor
    rows: Tensor
    predictors: Tensor
    columns: Tensor
    targets: Tensor

    @property
    def tokens(self) -> int:
        """Real tokens, padding not counted."""
        return int(self.attention_mask.sum())

    def to(self, device: torch.device) -> "MixedBatch":
        """The same batch on a device."""
        tensors = (self.input_ids, self.attention_mask, self.rows, self.predictors, self.columns, self.targets)
        return MixedBatch(self.roles, *(tensor.to(device, non_blocking=True) for tensor in tensors))

    def rows_of(self, roles: frozenset[Part]) -> Tensor:
        """Which rows have one of these roles, [B] bool."""
        return torch.tensor([role in roles for role in self.roles], device=self.input_ids.device)

    def select(self, roles: frozenset[Part]) -> tuple["MixedBatch", Tensor]:
        """The sub-batch of the rows with these roles, and which of the N scored tokens are in it, [N] bool."""
        keep = self.rows_of(roles)
        chosen = keep[self.rows]
        new_row = torch.cumsum(keep, dim=0) - 1
        length = int(self.attention_mask[keep].sum(dim=1).max()) if bool(keep.any()) else 0
        sub = MixedBatch(
            tuple(role for role in self.roles if role in roles),
            self.input_ids[keep][:, :length],
            self.attention_mask[keep][:, :length],
            new_row[self.rows[chosen]],
            self.predictors[chosen],
            self.columns[chosen],
            self.targets[chosen],
        )
        return sub, chosen


def collate(examples: Sequence[Encoded]) -> MixedBatch:
    """Right-pad to the longest example; padded positions are masked and never scored, so their id is of no account."""
    longest = max(example.length for example in examples)
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
        tuple(example.role for example in examples),
        input_ids,
        attention_mask,
        torch.tensor(rows),
        torch.tensor(predictors),
        torch.tensor(columns),
        torch.tensor(targets),
    )
