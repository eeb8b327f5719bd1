"""What a method sees of a batch, and what it gives back."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Literal, Protocol

import torch
from pydantic import BaseModel, ConfigDict
from torch import Tensor

from unsay.records import Role


class Companion(StrEnum):
    """A row that the schedule makes for every row of a role: row i of the companion belongs to row i of the role."""

    REFUSAL = "refusal"
    """The row's own prompt with a safe answer to the same request: the other half of a preference pair."""
    MISMATCH = "mismatch"
    """The row's own prompt with the normal answer to some other, normal prompt."""
    DECOUPLE = "decouple"
    """A normal example that looks like the row: the same words beside a harmless picture, or else a harmless request in
    the very same format."""


Part = Role | Companion
"""What a row of a batch is for."""

Block = int | float
"""One of the decoder's blocks: its number, counted from 0, or the share of the depth that lies at or below it, above 0
and at most 1. Half of 32 blocks is block 15."""

Blocks = tuple[Block, ...] | Literal["all"]


@dataclass(frozen=True)
class RoleView:
    """The answer tokens of one part's examples in a batch: n examples, padded to T tokens.

    Attributes:
        policy: log-probability of each answer token under the model being trained, [n, T].
        mask: True where there is an answer token (its end token included), [n, T].
        reference: the same as `policy` under the original model, without gradient; None unless asked for.
        kl: KL(original ‖ current) over the whole vocabulary at each answer position, in nats, [n, T]; None unless
            asked for.
        hidden: what the K blocks that were asked for put out, in that order, at the positions from which the answer's
            tokens are predicted (from the prompt's last token to the answer's last but one), [n, T, K, H], float32;
            None unless asked for.
        reference_hidden: the same under the original model, without gradient; None unless asked for.
    """

    policy: Tensor
    mask: Tensor
    reference: Tensor | None = None
    kl: Tensor | None = None
    hidden: Tensor | None = None
    reference_hidden: Tensor | None = None

    def per_example(self, values: Tensor) -> Tensor:
        """Mean of [n, T] values over each example's own answer tokens → [n]; padding never counts."""
        return self.total(values) / self.mask.sum(dim=1).clamp_min(1)

    def total(self, values: Tensor) -> Tensor:
        """Sum of [n, T] values over each example's own answer tokens → [n]; padding never counts."""
        return (values * self.mask.to(values.dtype)).sum(dim=1)

    def cross_entropy(self) -> Tensor:
        """Mean negative log-probability per answer token, [n], in nats."""
        return self.per_example(-self.policy)

    def log_ratio(self) -> Tensor:
        """`log π(answer) − log π_original(answer)` of each token, [n, T], in nats.

        Raises:
            ValueError: the batch carries no reference for this part.
        """
        if self.reference is None:
            raise ValueError("a log-ratio needs the original model; the method must declare it in `needs.reference`")
        return self.policy - self.reference

    def first_token(self, values: Tensor) -> Tensor:
        """The values at each answer's first token, [n]: where a model decides whether to refuse."""
        return values[:, 0]


@dataclass(frozen=True)
class RoleBatch(Mapping[Part, RoleView]):
    """One mixed batch, by role or companion; what a method did not ask for is absent.

    Attributes:
        views: what stands in the batch.
        progress: share of the training that is done, 0 at its first step and below 1 at its last.
    """

    views: Mapping[Part, RoleView]
    progress: float = 0.0

    def __getitem__(self, part: Part) -> RoleView:
        return self.views[part]

    def __iter__(self) -> Iterator[Part]:
        return iter(self.views)

    def __len__(self) -> int:
        return len(self.views)


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
    """What a method needs of a batch, and what its adapter is for; checked before training starts.

    Attributes:
        roles: the roles its examples must have.
        companions: rows to be made for every row of a role.
        reference: parts whose tokens need the original model's log-probabilities.
        kl: parts that need KL(original ‖ current) over the whole vocabulary.
        hidden: parts that need hidden states, and of which blocks.
        reference_hidden: those of them that need the same blocks of the original model too.
        adapter_factor: what the trained adapter is multiplied by before it is watched, saved and used; a negative
            factor takes away what was learnt.

    Raises:
        ValueError: it wants something of a part that it does not ask for.
    """

    roles: frozenset[Role]
    companions: Mapping[Companion, Role] = field(default_factory=dict)
    reference: frozenset[Part] = frozenset()
    kl: frozenset[Part] = frozenset()
    hidden: Mapping[Part, Blocks] = field(default_factory=dict)
    reference_hidden: frozenset[Part] = frozenset()
    adapter_factor: float = 1.0

    def __post_init__(self) -> None:
        if not (self.original | self.hidden.keys()) <= set(self.parts):
            raise ValueError("`reference`, `kl` and `hidden` may only name parts that stand in `roles` or `companions`")
        if not self.reference_hidden <= self.hidden.keys():
            raise ValueError("`reference_hidden` may only name parts that stand in `hidden`")
        if not set(self.companions.values()) <= self.roles:
            raise ValueError("`companions` may only belong to roles that stand in `roles`")

    @property
    def parts(self) -> list[Part]:
        """Everything that stands in a batch, always in the same order."""
        roles = [role for role in Role if role in self.roles]
        return [*roles, *(companion for companion in Companion if companion in self.companions)]

    @property
    def original(self) -> frozenset[Part]:
        """Parts that the original model must read too."""
        return self.reference | self.kl | self.reference_hidden


class MethodSettings(BaseModel):
    """Settings of a method; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Method(Protocol):
    """A pure function from a batch's log-probabilities and hidden states to loss terms.

    No method touches the model, the tokenizer or the trainer.
    """

    @property
    def needs(self) -> Needs:
        """What it needs of a batch."""
        ...

    def loss(self, batch: RoleBatch) -> LossTerms:
        """The loss terms of one mixed batch."""
        ...
