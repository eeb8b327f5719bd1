"""Circuit breakers by representation rerouting (Zou et al. 2024, arXiv 2406.04313, algorithm 1).

    L = α (1 − t/2T) · mean ReLU(cos(h, h_original)), on harmful answers
        + α ρ t/2T · mean ‖h − h_original‖, on normal answers

at step t of T: first break, then mend. Harmful states are turned until they are orthogonal to what they were, in the
blocks named; normal states are held in all blocks, as in the authors' code. ρ is 1 in the paper. The first mean lies
between 0 and 1 whatever the model, the second has the unit of hidden states: where they are long, nothing moves unless
ρ is small.

The paper reads whole conversations. Here the means run over the positions from which an answer's tokens are predicted,
the prompt's last token included, and not over the prompt: chat format, system prompt and the words of a prompt's format
are common to harmful and normal prompts, and cannot be turned and held at once.

A fresh adapter changes nothing, so training begins where the cosine is 1 and its gradient 0. In half precision rounding
sets it going; here the original's harmful states are nudged by a thousandth of their length instead, in a fixed
direction, which works in any precision.
"""

import torch
from pydantic import Field
from torch.nn.functional import cosine_similarity, relu

from unsay.methods.base import BlockSetting, LossTerms, MethodSettings, Needs, RoleBatch
from unsay.methods.rmu import direction
from unsay.records import Role

NUDGE = 1e-3
"""Share of their length by which the original's harmful states are moved."""


class CircuitBreakerSettings(MethodSettings):
    """Blocks and weight; the defaults are the paper's for Llama-3-8B."""

    layers: tuple[BlockSetting, ...] = Field(
        (0.3125, 0.625),
        min_length=1,
        description="the blocks where harmful states are turned: numbers from 0, or shares of the depth; the paper's "
        "are the 10th and 20th of 32",
    )
    alpha: float = Field(10.0, gt=0, description="α of both terms")
    retain_weight: float = Field(
        1.0,
        ge=0,
        description="ρ of the second term, a distance between hidden states: the longer a model's states, the smaller; "
        "1 is the paper's form",
    )


class CircuitBreaker:
    """Turn harmful hidden states aside; hold the rest."""

    def __init__(self, settings: CircuitBreakerSettings) -> None:
        self.settings = settings

    @property
    def needs(self) -> Needs:
        """Hidden states under both models: some blocks of harmful answers, every block of normal ones."""
        roles = frozenset({Role.FORGET, Role.RETAIN})
        return Needs(
            roles=roles, hidden={Role.FORGET: self.settings.layers, Role.RETAIN: "all"}, reference_hidden=roles
        )

    def loss(self, batch: RoleBatch) -> LossTerms:
        """The two terms at `batch.progress` = t/T; averaged over blocks, answer tokens and examples."""
        forget, retain = batch[Role.FORGET], batch[Role.RETAIN]
        assert forget.hidden is not None  # declared in `needs`, as are the other three
        assert forget.reference_hidden is not None
        assert retain.hidden is not None
        assert retain.reference_hidden is not None
        was = forget.reference_hidden
        nudged = was + NUDGE * was.norm(dim=-1, keepdim=True) * direction(was, seed=0)
        cosine = cosine_similarity(forget.hidden, nudged, dim=-1)  # [n, T, K]
        reroute = forget.per_example(relu(cosine).mean(dim=2)).mean()
        moved = torch.linalg.vector_norm(retain.hidden - retain.reference_hidden, dim=-1)  # [n, T, K]
        drift = retain.per_example(moved.mean(dim=2)).mean()
        half, alpha = batch.progress / 2, self.settings.alpha
        return LossTerms(
            {
                "reroute": alpha * (1 - half) * reroute,
                "drift": alpha * self.settings.retain_weight * half * drift,
            },
            {
                "cosine": forget.per_example(cosine.detach().mean(dim=2)).mean(),
                "drift_distance": drift.detach(),
                "forget_ce": forget.cross_entropy().detach().mean(),
            },
        )
