"""Textual unlearning (Chakraborty et al. 2024, arXiv 2406.02575, equations 1 to 4).

Its origin is Yao et al. 2023 (arXiv 2310.10683).

    L = − η_forget · CE(harmful prompt, harmful answer)
        + η_refuse · CE(harmful prompt, safe answer)
        + η_retain · KL(original ‖ current), on normal data

each over answer tokens only. Ascent has no floor: left alone, the first term runs off to infinity and takes the
language with it. `forget_cap` bounds it per example; past the cap an example no longer pushes.
"""

from pydantic import Field
from torch import Tensor

from unsay.methods.base import LossTerms, Needs, RoleBatch
from unsay.methods.retain import RetainSettings, retain_terms
from unsay.records import Role


class TextualUnlearningSettings(RetainSettings):
    """Weights of the three terms; the defaults of the weights are the paper's."""

    forget_weight: float = Field(0.5, ge=0, description="η of the ascent on harmful answers")
    refuse_weight: float = Field(1.0, ge=0, description="η of the descent on safe answers")
    forget_cap: float | None = Field(
        6.0,
        gt=0,
        description="an example whose harmful answer costs more nats per token than this is forgotten enough; "
        "null gives the paper's raw, unbounded form",
    )


class TextualUnlearning:
    """The paper's three-term objective, with bounded ascent."""

    needs = Needs(roles=frozenset(Role), kl=frozenset({Role.RETAIN}))

    def __init__(self, settings: TextualUnlearningSettings) -> None:
        self.settings = settings

    def loss(self, batch: RoleBatch) -> LossTerms:
        """`− η_f · mean_i min(CE_i, cap) + η_r · mean_i CE_i + retain terms`; CE in nats per answer token."""
        forget = batch[Role.FORGET].cross_entropy()  # [n_forget]
        refuse = batch[Role.REFUSE].cross_entropy().mean()
        terms: dict[str, Tensor] = {
            "forget": -self.settings.forget_weight * self._bounded(forget).mean(),
            "refuse": self.settings.refuse_weight * refuse,
            **retain_terms(batch[Role.RETAIN], self.settings),
        }
        return LossTerms(terms, {"forget_ce": forget.detach().mean(), "refuse_ce": refuse.detach()})

    def _bounded(self, cross_entropy: Tensor) -> Tensor:
        """Clamping also stops the gradient of examples beyond the cap."""
        cap = self.settings.forget_cap
        return cross_entropy if cap is None else cross_entropy.clamp_max(cap)
