"""What a method sees of a batch, and what it gives back."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from unsay.records import Role


@dataclass(frozen=True)
class RoleView:
    """The answer tokens of one role's examples in a batch: n examples, padded to T tokens.

    Attributes:
        policy: log-probability of each answer token under the model being trained, [n, T].
        mask: True where there is an answer token (its end token included), [n, T].
        reference: the same as `policy` under the original model, without gradient; None unless asked for.
        kl: KL(original ‖ current) over the whole vocabulary at each answer position, in nats, [n, T]; None unless
            asked for.
    """

    policy: Tensor
    mask: Tensor
    reference: Tensor | None = None
    kl: Tensor | None = None

    def per_example(self, values: Tensor) -> Tensor:
        """Mean of [n, T] values over each example's own answer tokens → [n]; padding never counts."""
        weights = self.mask.to(values.dtype)
        return (values * weights).sum(dim=1) / weights.sum(dim=1).clamp_min(1)

    def cross_entropy(self) -> Tensor:
        """Mean negative log-probability per answer token, [n], in nats."""
        return self.per_example(-self.policy)

    def first_token(self, values: Tensor) -> Tensor:
        """The values at each answer's first token, [n]: where a model decides whether to refuse."""
        return values[:, 0]


RoleBatch = Mapping[Role, RoleView]
"""One mixed batch, by role. A role that a method did not ask for is absent."""


@dataclass(frozen=True)
class LossTerms:
    """A scalar loss per term, already weighted; `total` is what is minimised.

    Attributes:
        terms: weighted terms, each with gradient; their sum is the loss.
        meters: further scalars worth a curve, without gradient.
    """

    terms: Mapping[str, Tensor]
    meters: Mapping[str, Tensor]

    @property
    def total(self) -> Tensor:
        """The loss: the sum of the terms."""
        return torch.stack(list(self.terms.values())).sum()


@dataclass(frozen=True)
class Needs:
    """What a method needs of a batch; checked before training starts.

    Attributes:
        roles: the roles its examples must have.
        reference: roles whose tokens need the original model's log-probabilities.
        kl: roles that need KL(original ‖ current) over the whole vocabulary.

    Raises:
        ValueError: it wants the original model's view of a role that is not among `roles`.
    """

    roles: frozenset[Role]
    reference: frozenset[Role] = frozenset()
    kl: frozenset[Role] = frozenset()

    def __post_init__(self) -> None:
        if not self.original <= self.roles:
            raise ValueError("`reference` and `kl` may only name roles that stand in `roles`")

    @property
    def original(self) -> frozenset[Role]:
        """Roles that the original model must read too."""
        return self.reference | self.kl


class MethodSettings(BaseModel):
    """Settings of a method; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Method(Protocol):
    """A pure function from a batch's log-probabilities to loss terms.

    No method touches the model, the tokenizer or the trainer.
    """

    @property
    def needs(self) -> Needs:
        """What it needs of a batch."""
        ...

    def loss(self, batch: RoleBatch) -> LossTerms:
        """The loss terms of one mixed batch."""
        ...
