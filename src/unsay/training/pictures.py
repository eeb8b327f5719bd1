"""An example's picture: where it stands in the prompt, and how it enters the forward pass."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor


@dataclass(frozen=True)
class Picture:
    """An example's picture and its place in the prompt.

    Attributes:
        path: the file.
        key: content key of its pixels.
        prompt: the words beside it.
        columns: positions of its placeholder tokens in the prompt; empty where the model has none.
    """

    path: str
    key: str
    prompt: str
    columns: tuple[int, ...]


@dataclass(frozen=True)
class Seen:
    """A picture as it enters the forward pass of one row: as features, or as what the processor made of it.

    Attributes:
        columns: positions of its tokens in the row, [n].
        features: what stands there in the language model's input, [n, H]; None where the whole model must run.
        inputs: then the processor's tensors for this row alone: `input_ids` of the prompt, pixels and more.
        answers: what per-token tensors of these hold at an answer's tokens, where they do not go on as the prompt ends.
    """

    columns: Tensor
    features: Tensor | None
    inputs: Mapping[str, Tensor] | None = None
    answers: Mapping[str, int] = field(default_factory=dict)

    def to(self, device: torch.device) -> "Seen":
        """The same on a device."""
        features = None if self.features is None else self.features.to(device, non_blocking=True)
        inputs = None if self.inputs is None else {name: value.to(device) for name, value in self.inputs.items()}
        return Seen(self.columns.to(device), features, inputs, self.answers)


def pixel_groups(rows: Sequence[Seen | None]) -> list[list[int]]:
    """Rows whose processor tensors can be joined: equal in all but the first dimension, or one value per token."""
    groups: dict[object, list[int]] = {}
    for row, inputs in enumerate(map(_inputs, rows)):
        shapes = tuple(
            (name, tuple(value.shape[2 if _per_token(inputs, name) else 1 :])) for name, value in sorted(inputs.items())
        )
        groups.setdefault(shapes, []).append(row)
    return list(groups.values())


def joined(rows: Sequence[Seen | None], length: int) -> dict[str, Tensor]:
    """The processor's tensors of rows of one group, ids and mask left out; per-token ones go on to `length`.

    Per-token values, such as kinds of tokens or what each of them may see, are about the prompt; an answer's are those
    of the prompt's last token, as in generation, unless `Seen.answers` says otherwise.
    """
    return {
        name: torch.cat([_continued(row, name, length) for row in rows])
        for name in _inputs(rows[0])
        if name not in ("input_ids", "attention_mask")
    }


def _continued(row: Seen | None, name: str, length: int) -> Tensor:
    """A row's tensor; if it has one value per token, gone on with: [1, L, ...] → [1, length, ...]."""
    inputs = _inputs(row)
    values = inputs[name]
    if row is None or not _per_token(inputs, name):
        return values
    last = torch.full((length - values.shape[1],), values.shape[1] - 1, device=values.device)
    following = values.index_select(1, last)
    if name in row.answers:
        following = torch.full_like(following, row.answers[name])
    return torch.cat([values, following], dim=1)


def _inputs(row: Seen | None) -> Mapping[str, Tensor]:
    if row is None or row.inputs is None:
        raise ValueError("a row without pixels among rows that need them")
    return row.inputs


def _per_token(inputs: Mapping[str, Tensor], name: str) -> bool:
    return inputs[name].shape[:2] == inputs["input_ids"].shape
