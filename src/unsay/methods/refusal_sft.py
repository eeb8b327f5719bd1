"""Refusal fine-tuning, with a KL anchor or with normal answers (IDK). No harmful answer is needed.

Refusal SFT is textual unlearning without its forget term, the first baseline. Text supervised fine-tuning is the
baseline that the paper compares with (arXiv 2406.02575, section 4):

    L = η_refuse · CE(harmful prompt, safe answer) + η_retain · KL(original ‖ current), on normal data

IDK is preference optimisation as TOFU calls it, or "I don't know" (Maini et al. 2024, arXiv 2401.06121). Here the safe
answers of the refuse examples take the place of "I don't know":

    L = CE(harmful prompt, "I don't know") + CE(normal prompt, normal answer)

Each CE is over answer tokens only.
"""

from pydantic import Field

from unsay.methods.base import LossTerms, Needs, RetainCeSettings, RetainSettings, RoleBatch, retain_terms
from unsay.records import Role


class RefusalSftSettings(RetainSettings):
    """Weights of the two terms."""

    refuse_weight: float = Field(1.0, ge=0, description="η of the descent on safe answers")


class IdkSettings(RetainCeSettings):
    """Weights of the two terms, both 1 as published."""

    refuse_weight: float = Field(1.0, ge=0, description="weight of the descent on safe answers")


class RefusalSft:
    """Learn to refuse; forget nothing."""

    def __init__(self, settings: RefusalSftSettings | IdkSettings) -> None:
        self.settings = settings

    @property
    def needs(self) -> Needs:
        """Harmful requests with safe answers, and normal examples as the retain weights ask for."""
        return Needs(roles=frozenset({Role.REFUSE}) | self.settings.anchored, kl=self.settings.kl)

    def loss(self, batch: RoleBatch) -> LossTerms:
        """`η_r · mean_i CE_i + retain terms`; CE in nats per answer token."""
        refuse = batch[Role.REFUSE].cross_entropy().mean()
        terms = {"refuse": self.settings.refuse_weight * refuse, **retain_terms(batch, self.settings)}
        return LossTerms(terms, {"refuse_ce": refuse.detach()})


class Idk(RefusalSft):
    """Say that you will not; go on saying the rest."""
