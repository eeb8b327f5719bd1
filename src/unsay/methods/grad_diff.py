"""Gradient difference (Liu et al. 2022, arXiv 2203.12817; as in TOFU, arXiv 2401.06121).

    L = − CE(harmful prompt, harmful answer) + CE(normal prompt, normal answer)

each over answer tokens only.
"""

from unsay.methods.ascent import AscentSettings, bounded
from unsay.methods.base import LossTerms, Needs, RoleBatch
from unsay.methods.retain import RetainCeSettings, retain_terms
from unsay.records import Role


class GradDiffSettings(AscentSettings, RetainCeSettings):
    """Weights of the two terms, and the bound of the first; both weights are 1 as published."""


class GradDiff:
    """Up on harmful answers, down on normal ones."""

    def __init__(self, settings: GradDiffSettings) -> None:
        self.settings = settings

    @property
    def needs(self) -> Needs:
        """Harmful answers and normal ones."""
        return Needs(roles=frozenset({Role.FORGET}) | self.settings.anchored, kl=self.settings.kl)

    def loss(self, batch: RoleBatch) -> LossTerms:
        """`− w · mean_i min(CE_i, cap) + retain terms`; CE in nats per answer token."""
        forget = batch[Role.FORGET].cross_entropy()
        term = -self.settings.forget_weight * bounded(forget, self.settings.forget_cap).mean()
        return LossTerms({"forget": term, **retain_terms(batch, self.settings)}, {"forget_ce": forget.detach().mean()})
