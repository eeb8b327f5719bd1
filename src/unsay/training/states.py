"""What a forward pass over a mixed batch leaves: hidden states where answers are predicted."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from unsay.methods.base import Part
from unsay.training.encoding import MixedBatch


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


def scored(batch: MixedBatch, groups: Sequence[Sequence[int]], prefix: int, outputs: Sequence[Tensor]) -> Tensor:
    """The states at the N predicting positions, [N, H]; zero for rows that stand in no group.

    Args:
        batch: B rows.
        groups: numbers of the rows that stand side by side.
        prefix: columns of each row that are not among the outputs.
        outputs: [rows, columns, H] of each group.
    """
    device = batch.targets.device  # layers of a model that is spread give their output where they are
    hidden = outputs[0].new_zeros(len(batch.targets), outputs[0].shape[-1], device=device)
    for group, output in zip(groups, outputs, strict=True):
        width = output.shape[1]
        places = [
            place * width + column - prefix for place, row in enumerate(group) for column in batch.predicting(row)
        ]
        numbers = [number for row in group for number in batch.scored(row)]
        picked = output.to(device).flatten(0, 1).index_select(0, batch.index(places))
        hidden = hidden.index_put((batch.index(numbers),), picked)
    return hidden


def read_by(batch: MixedBatch, roles: frozenset[Part], states: Sequence[Tensor]) -> Tensor:
    """States [N, H] of some blocks together, [N, K, H] without gradient; zero but for rows with these roles."""
    together = torch.stack(list(states), dim=1).detach()
    chosen = batch.index(batch.scored_in(roles))
    return torch.zeros_like(together).index_copy(0, chosen, together.index_select(0, chosen))
