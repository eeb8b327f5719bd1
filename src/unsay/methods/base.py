"""What a method sees of a batch, what it returns, and the retain terms that methods share."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Literal, Protocol

import torch
from pydantic import AfterValidator, BaseModel, ConfigDict, Field
from torch import Tensor

from unsay.errors import UserError
from unsay.records import Role


class Companion(StrEnum):
    """A row that is made for every row of a role: row i of the companion belongs to row i of the role."""

    REFUSAL = "refusal"
    """The row's own prompt with a safe answer to the same request: the other half of a preference pair."""
    MISMATCH = "mismatch"
    """The row's own prompt with the normal answer to some other, normal prompt."""
    DECOUPLE = "decouple"
    """A normal example that looks like the row: the same words beside a harmless picture, or a harmless request in the
    same format."""


Part = Role | Companion
"""The part that a row plays in a batch."""

Block = int | float
"""One of the decoder's blocks: its number, counted from 0, or a share of the depth, above 0 and at most 1. Half of 32
blocks is block 15."""

Blocks = tuple[Block, ...] | Literal["all"]


@dataclass(frozen=True)
class RoleView:
    """The answer tokens of one part's examples in a batch: n examples, padded to T tokens.

    Attributes:
        policy: log-probability of each answer token under the model being trained, [n, T].
        mask: True where there is an answer token (its end token included), [n, T].
        reference: the same as `policy` under the original model, without gradient; None unless needed.
        kl: KL(original ‖ current) over the whole vocabulary at each answer position, in nats, [n, T]; None unless
            needed.
        hidden: outputs of the K needed blocks, in that order, at the positions from which the answer's tokens are
            predicted (from the prompt's last token to the answer's last but one), [n, T, K, H], float32; None unless
            needed.
        reference_hidden: the same under the original model, without gradient; None unless needed.
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
        """`log π(answer) − log π_original(answer)` of each token, [n, T], in nats."""
        if self.reference is None:
            raise ValueError("a log-ratio needs the original model; the method must declare it in `needs.reference`")
        return self.policy - self.reference

    def first_token(self, values: Tensor) -> Tensor:
        """The values at each answer's first token, [n]: where a model decides whether to refuse."""
        return values[:, 0]


class MissingPartError(UserError, KeyError):
    """A part of a batch that the method has not asked for; a `KeyError`, so that `in` and `get` work."""

    __str__ = UserError.__str__  # a key error's is quoted


@dataclass(frozen=True)
class RoleBatch(Mapping[Part, RoleView]):
    """One mixed batch, by role or companion; parts that a method does not need are absent.

    Attributes:
        views: the parts.
        progress: share of the training that is done, 0 at its first step and below 1 at its last.
    """

    views: Mapping[Part, RoleView]
    progress: float = 0.0

    def __getitem__(self, part: Part) -> RoleView:
        if part not in self.views:
            raise MissingPartError(f"the method's loss reads '{part}', which its `needs` do not name")
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
class WeightEdit:
    """What takes the place of an adapter that has learned the harmful answers (see `methods.rep_select`).

    Attributes:
        components: leading components of the forget gradient that are damped, as a share of a matrix's smaller side.
        max_kl: KL(original ‖ edited) on held-out normal answers that ends the step, in nats per token.
        rank: of the adapter that holds the edit.
    """

    components: float
    max_kl: float
    rank: int


@dataclass(frozen=True)
class Needs:
    """What a method needs of a batch; checked before training starts.

    Attributes:
        roles: the roles of its examples.
        companions: rows to be made for every row of a role.
        reference: parts whose tokens need the original model's log-probabilities.
        kl: parts that need KL(original ‖ current) over the whole vocabulary.
        hidden: parts that need hidden states, and of which blocks.
        reference_hidden: those of them that need the same blocks of the original model too.
        adapter_factor: what the trained adapter is multiplied by before it is probed, saved and used; a negative factor
            takes away what was learned.
        edit: what the trained adapter is replaced by at the end; None keeps it.

    Raises:
        ValueError: something is needed of a part that is in neither `roles` nor `companions`.
    """

    roles: frozenset[Role]
    companions: Mapping[Companion, Role] = field(default_factory=dict)
    reference: frozenset[Part] = frozenset()
    kl: frozenset[Part] = frozenset()
    hidden: Mapping[Part, Blocks] = field(default_factory=dict)
    reference_hidden: frozenset[Part] = frozenset()
    adapter_factor: float = 1.0
    edit: WeightEdit | None = None

    def __post_init__(self) -> None:
        if not (self.original | self.hidden.keys()) <= set(self.parts):
            raise ValueError("`reference`, `kl` and `hidden` may only name parts that stand in `roles` or `companions`")
        if not self.reference_hidden <= self.hidden.keys():
            raise ValueError("`reference_hidden` may only name parts that stand in `hidden`")
        if not set(self.companions.values()) <= self.roles:
            raise ValueError("`companions` may only belong to roles that stand in `roles`")

    @property
    def parts(self) -> list[Part]:
        """Every part of a batch, always in the same order."""
        roles = [role for role in Role if role in self.roles]
        return [*roles, *(companion for companion in Companion if companion in self.companions)]

    @property
    def original(self) -> frozenset[Part]:
        """Parts that the original model must read too."""
        return self.reference | self.kl | self.reference_hidden

    def blocks(self, depth: int) -> list[int]:
        """The numbers of all blocks that some part needs, lowest first, in a decoder of `depth` blocks."""
        return sorted({number for blocks in self.hidden.values() for number in block_numbers(blocks, depth)})

    def block_places(self, part: Part, depth: int) -> list[int]:
        """Where the blocks of one part stand in `blocks`, in the order in which the part names them."""
        numbers = self.blocks(depth)
        return [numbers.index(number) for number in block_numbers(self.hidden.get(part, ()), depth)]


class MethodSettings(BaseModel):
    """Settings of a method; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Method(Protocol):
    """A pure function from a batch's log-probabilities and hidden states to loss terms.

    No method touches the model, the tokenizer or the trainer.
    """

    @property
    def needs(self) -> Needs:
        """What the loss needs of a batch."""
        ...

    def loss(self, batch: RoleBatch) -> LossTerms:
        """The loss terms of one mixed batch."""
        ...


def _check_block(block: Block) -> Block:
    if isinstance(block, float) and not 0 < block <= 1:
        raise ValueError("a share of the depth lies above 0 and at most at 1; a block's number is a whole number")
    if isinstance(block, int) and block < 0:
        raise ValueError("blocks are counted from 0")
    return block


BlockSetting = Annotated[Block, AfterValidator(_check_block)]
"""A setting that names a block: a whole number counts from 0, a fraction is a share of the depth."""


def block_numbers(blocks: Blocks, depth: int, setting: str = "method_settings") -> list[int]:
    """The numbers of these blocks in a decoder of `depth` blocks, in the same order; errors name the setting."""
    if blocks == "all":
        return list(range(depth))
    numbers = [max(round(block * depth), 1) - 1 if isinstance(block, float) else block for block in blocks]
    for number in numbers:
        if number >= depth:
            raise UserError(
                f"{setting}: block {number} does not exist; this model has {depth}, counted from 0 "
                "(a fraction such as 0.5 is a share of the depth)"
            )
    return numbers


class RetainSettings(MethodSettings):
    """Weights of the terms that anchor the model on normal data; with all three at 0 no normal examples are needed."""

    retain_weight: float = Field(1.0, ge=0, description="weight of KL(original ‖ current), mean over answer tokens")
    decision_weight: float = Field(
        0.0,
        ge=0,
        description="extra weight of the same KL at the answer's first token alone; a benign answer that flips into a "
        "refusal does so there, and a mean over tokens hardly sees it; 0 gives the paper's term",
    )
    retain_ce_weight: float = Field(
        0.0, ge=0, description="weight of the descent on normal answers, in nats per answer token"
    )

    @property
    def anchored(self) -> frozenset[Role]:
        """The retain role, if any weight needs it."""
        weights = self.retain_weight + self.decision_weight + self.retain_ce_weight
        return frozenset({Role.RETAIN}) if weights else frozenset()

    @property
    def kl(self) -> frozenset[Part]:
        """The retain role, if a weight needs its KL."""
        return frozenset({Role.RETAIN}) if self.retain_weight + self.decision_weight else frozenset()


class RetainCeSettings(RetainSettings):
    """The same three weights for methods whose papers descend on normal answers."""

    retain_weight: float = Field(
        0.0, ge=0, description="weight of KL(original ‖ current) on normal data, mean over answer tokens"
    )
    retain_ce_weight: float = Field(
        1.0, ge=0, description="weight of the descent on normal answers, in nats per answer token"
    )


def retain_terms(batch: RoleBatch, settings: RetainSettings) -> dict[str, Tensor]:
    """`retain_weight · mean_t KL_t + decision_weight · KL_1 + retain_ce_weight · CE`, averaged over the examples.

    A term whose weight is 0 is left out.
    """
    terms: dict[str, Tensor] = {}
    if not settings.anchored:
        return terms
    view = batch[Role.RETAIN]
    if settings.kl:
        if view.kl is None:
            raise ValueError("the retain term needs KL(original ‖ current); the method must declare it in `needs.kl`")
        if settings.retain_weight:
            terms["retain"] = settings.retain_weight * view.per_example(view.kl).mean()
        if settings.decision_weight:
            terms["decision"] = settings.decision_weight * view.first_token(view.kl).mean()
    if settings.retain_ce_weight:
        terms["retain_ce"] = settings.retain_ce_weight * view.cross_entropy().mean()
    return terms
