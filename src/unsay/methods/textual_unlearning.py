"""Textual unlearning (Chakraborty et al. 2024, arXiv 2406.02575, equations 1 to 4).

    L = − η_forget · CE(harmful prompt, harmful answer)
        + η_refuse · CE(harmful prompt, safe answer)
        + η_retain · KL(original ‖ current), on normal data
        + η_mismatch · CE(harmful prompt, normal answer to another prompt)

each over answer tokens only. Ascent has no floor: left alone, the first term runs off to infinity and takes the
language with it. `forget_cap` bounds it per example; past the cap an example no longer pushes.

The last term is not the paper's but its origin's (Yao et al. 2023, arXiv 2310.10683), where it stands in
place of the second; there its weight is 1, here it is 0 unless asked for. The origin pairs every harmful prompt with
five normal answers drawn anew at each step; here it is one, drawn anew at each step.
"""

from pydantic import Field

from unsay.methods.ascent import bounded
from unsay.methods.base import Companion, LossTerms, Needs, RetainSettings, RoleBatch, retain_terms
from unsay.records import Role


class TextualUnlearningSettings(RetainSettings):
    """Weights of the terms; the defaults of the weights are the paper's."""

    forget_weight: float = Field(0.5, ge=0, description="η of the ascent on harmful answers")
    refuse_weight: float = Field(1.0, ge=0, description="η of the descent on safe answers")
    forget_cap: float | None = Field(
        6.0,
        gt=0,
        description="an example whose harmful answer costs more nats per token than this is forgotten enough; "
        "null gives the paper's raw, unbounded form",
    )
    mismatch_weight: float = Field(
        0.0,
        ge=0,
        description="η of the descent on normal answers to other prompts, given the harmful prompt; 0 gives the "
        "paper's form, 1 is the weight of its origin (arXiv 2310.10683)",
    )


class TextualUnlearning:
    """The paper's three terms; its ascent is bounded."""

    def __init__(self, settings: TextualUnlearningSettings) -> None:
        self.settings = settings

    @property
    def needs(self) -> Needs:
        """All harmful examples, normal ones with their KL, and mismatched answers if they have a weight."""
        return Needs(
            roles=frozenset({Role.FORGET, Role.REFUSE}) | self.settings.anchored,
            companions={Companion.MISMATCH: Role.FORGET} if self.settings.mismatch_weight else {},
            kl=self.settings.kl,
        )

    def loss(self, batch: RoleBatch) -> LossTerms:
        """`− η_f · mean min(CE, cap) + η_r · mean CE + retain terms + η_m · mean CE`; CE in nats per answer token."""
        forget = batch[Role.FORGET].cross_entropy()  # [n_forget]
        refuse = batch[Role.REFUSE].cross_entropy().mean()
        terms = {
            "forget": -self.settings.forget_weight * bounded(forget, self.settings.forget_cap).mean(),
            "refuse": self.settings.refuse_weight * refuse,
            **retain_terms(batch, self.settings),
        }
        if self.settings.mismatch_weight:
            mismatch = batch[Companion.MISMATCH].cross_entropy().mean()
            terms["mismatch"] = self.settings.mismatch_weight * mismatch
        return LossTerms(terms, {"forget_ce": forget.detach().mean(), "refuse_ce": refuse.detach()})
