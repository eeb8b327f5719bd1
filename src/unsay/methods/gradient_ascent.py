"""Gradient ascent alone (Jang et al. 2022, arXiv 2210.01504; a baseline of TOFU, arXiv 2401.06121).

    L = − CE(harmful prompt, harmful answer)

over answer tokens only. Nothing holds the model: it is here because every paper compares with it.
"""

from unsay.methods.ascent import AscentSettings, bounded
from unsay.methods.base import LossTerms, Needs, RoleBatch
from unsay.records import Role


class GradientAscentSettings(AscentSettings):
    """Weight and bound of the one term."""


class GradientAscent:
    """Make harmful answers unlikely; keep nothing."""

    needs = Needs(roles=frozenset({Role.FORGET}))

    def __init__(self, settings: GradientAscentSettings) -> None:
        self.settings = settings

    def loss(self, batch: RoleBatch) -> LossTerms:
        """`− w · mean_i min(CE_i, cap)`; CE in nats per answer token."""
        forget = batch[Role.FORGET].cross_entropy()
        term = -self.settings.forget_weight * bounded(forget, self.settings.forget_cap).mean()
        return LossTerms({"forget": term}, {"forget_ce": forget.detach().mean()})
