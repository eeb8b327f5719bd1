"""Refusal fine-tuning with a KL anchor: textual unlearning without its forget term, the first baseline.

    L = η_refuse · CE(harmful prompt, safe answer) + η_retain · KL(original ‖ current), on normal data

Text supervised fine-tuning is the baseline that the paper compares with (arXiv 2406.02575, section 4).
"""

from pydantic import Field

from unsay.methods.base import LossTerms, Needs, RetainSettings, RoleBatch, retain_terms
from unsay.records import Role


class RefusalSftSettings(RetainSettings):
    """Weights of the two terms."""

    refuse_weight: float = Field(1.0, ge=0, description="η of the descent on safe answers")


class RefusalSft:
    """Learn to refuse; forget nothing."""

    def __init__(self, settings: RefusalSftSettings) -> None:
        self.settings = settings

    @property
    def needs(self) -> Needs:
        """Harmful requests with safe answers, and normal examples with their KL."""
        return Needs(roles=frozenset({Role.REFUSE}) | self.settings.anchored, kl=self.settings.kl)

    def loss(self, batch: RoleBatch) -> LossTerms:
        """`η_r · mean_i CE_i + retain terms`; CE in nats per answer token."""
        refuse = batch[Role.REFUSE].cross_entropy().mean()
        terms = {"refuse": self.settings.refuse_weight * refuse, **retain_terms(batch, self.settings)}
        return LossTerms(terms, {"refuse_ce": refuse.detach()})
