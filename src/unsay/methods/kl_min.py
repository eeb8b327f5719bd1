"""KL minimisation (TOFU, Maini et al. 2024, arXiv 2401.06121).

    L = − CE(harmful prompt, harmful answer) + KL(original ‖ current), on normal data

each over answer tokens only. Textual unlearning is this with a term for refusals.
"""

from unsay.methods.ascent import AscentSettings, bounded
from unsay.methods.base import LossTerms, Needs, RoleBatch
from unsay.methods.retain import RetainSettings, retain_terms
from unsay.records import Role


class KlMinSettings(AscentSettings, RetainSettings):
    """Weights of the two terms, and the bound of the first; both weights are 1 as published."""


class KlMin:
    """Forget, and otherwise stay as you were."""

    def __init__(self, settings: KlMinSettings) -> None:
        self.settings = settings

    @property
    def needs(self) -> Needs:
        """Harmful answers, and normal examples with their KL."""
        return Needs(roles=frozenset({Role.FORGET}) | self.settings.anchored, kl=self.settings.kl)

    def loss(self, batch: RoleBatch) -> LossTerms:
        """`− w · mean_i min(CE_i, cap) + retain terms`; CE in nats per answer token."""
        forget = batch[Role.FORGET].cross_entropy()
        term = -self.settings.forget_weight * bounded(forget, self.settings.forget_cap).mean()
        return LossTerms({"forget": term, **retain_terms(batch, self.settings)}, {"forget_ce": forget.detach().mean()})
