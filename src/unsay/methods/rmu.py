"""Representation misdirection for unlearning, RMU (Li et al. 2024, arXiv 2403.03218).

    L = mean_t ‖h_t − c·u‖² / H, on harmful answers, + α · mean_t ‖h_t − h_t,original‖² / H, on normal answers

with h the hidden states that one block puts out, H their size and u one random direction of length 1, drawn uniformly
from the positive orthant and fixed for the whole run.

The paper reads whole texts. Here t runs over the positions from which an answer's tokens are predicted, the prompt's
last token included, and not over the prompt: chat format, system prompt and the words of a prompt's format are common
to harmful and normal prompts, and pulling them both ways teaches nothing. The paper trains three layers' projections;
here it is the adapter's part at and below the block.
"""

import torch
from pydantic import Field
from torch import Tensor

from unsay.methods.base import BlockSetting, LossTerms, MethodSettings, Needs, RoleBatch, RoleView
from unsay.records import Role


class RmuSettings(MethodSettings):
    """Block, direction and weights; the defaults are the authors' for Zephyr-7B."""

    layer: BlockSetting = Field(
        0.25, description="the block that is read: its number from 0, or a share of the depth; the paper's is 7 of 32"
    )
    steering: float = Field(
        6.5, gt=0, description="c: length that harmful hidden states are steered to; the model's own is a good guide"
    )
    retain_weight: float = Field(1200.0, ge=0, description="α of the distance to the original's hidden states")
    direction_seed: int = Field(0, ge=0, description="of the random direction u")


class Rmu:
    """Steer harmful hidden states one random way; hold the rest."""

    def __init__(self, settings: RmuSettings) -> None:
        self.settings = settings

    @property
    def needs(self) -> Needs:
        """Hidden states of one block: of harmful answers, and of normal ones under both models."""
        blocks = (self.settings.layer,)
        return Needs(
            roles=frozenset({Role.FORGET, Role.RETAIN}),
            hidden={Role.FORGET: blocks, Role.RETAIN: blocks},
            reference_hidden=frozenset({Role.RETAIN}),
        )

    def loss(self, batch: RoleBatch) -> LossTerms:
        """The two mean squared distances, each averaged over dimensions, answer tokens and examples."""
        forget, retain = batch[Role.FORGET], batch[Role.RETAIN]
        assert forget.hidden is not None  # declared in `needs`, as are the other two
        assert retain.hidden is not None
        assert retain.reference_hidden is not None
        target = self.settings.steering * direction(forget.hidden, self.settings.direction_seed)
        steer = _distance(forget, forget.hidden, target)
        drift = _distance(retain, retain.hidden, retain.reference_hidden)
        return LossTerms(
            {"steer": steer, "drift": self.settings.retain_weight * drift},
            {"steer_distance": steer.detach(), "forget_ce": forget.cross_entropy().detach().mean()},
        )


def direction(hidden: Tensor, seed: int) -> Tensor:
    """The unit vector u, [H], equal in every step and process; `hidden` gives its size, type and device."""
    drawn = torch.rand(hidden.shape[-1], generator=torch.Generator().manual_seed(seed))
    unit: Tensor = drawn / drawn.norm()
    return unit.to(hidden)


def _distance(view: RoleView, states: Tensor, target: Tensor) -> Tensor:
    """Mean squared difference of [n, T, K, H] states; padding does not count."""
    return view.per_example((states - target).square().mean(dim=(2, 3))).mean()
