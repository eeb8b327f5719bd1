"""Preference optimisation as TOFU calls it, or "I don't know" (Maini et al. 2024, arXiv 2401.06121).

    L = CE(harmful prompt, "I don't know") + CE(normal prompt, normal answer)

each over answer tokens only. Here the safe answers of the refuse examples are what is said instead. No harmful answer
is needed: it is `refusal-sft` with another anchor.
"""

from pydantic import Field

from unsay.methods.base import LossTerms, Needs, RetainCeSettings, RoleBatch, retain_terms
from unsay.records import Role


class IdkSettings(RetainCeSettings):
    """Weights of the two terms, both 1 as published."""

    refuse_weight: float = Field(1.0, ge=0, description="weight of the descent on safe answers")


class Idk:
    """Say that you will not; go on saying the rest."""

    def __init__(self, settings: IdkSettings) -> None:
        self.settings = settings

    @property
    def needs(self) -> Needs:
        """Harmful requests with safe answers, and normal answers."""
        return Needs(roles=frozenset({Role.REFUSE}) | self.settings.anchored, kl=self.settings.kl)

    def loss(self, batch: RoleBatch) -> LossTerms:
        """`w · mean_i CE_i + retain terms`; CE in nats per answer token."""
        refuse = batch[Role.REFUSE].cross_entropy().mean()
        return LossTerms(
            {"refuse": self.settings.refuse_weight * refuse, **retain_terms(batch, self.settings)},
            {"refuse_ce": refuse.detach()},
        )
