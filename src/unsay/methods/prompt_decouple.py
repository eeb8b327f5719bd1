"""Prompt decoupling (SafeEraser, Chen et al. 2025, arXiv 2502.12520): refuse the request, not what surrounds it.

    L = CE(harmful prompt, safe answer) + CE(normal prompt, normal answer)
        + η_decouple · CE(what looks like the harmful prompt and is harmless, its normal answer)
        − η_forget · CE(harmful prompt, harmful answer)

each over answer tokens only. In the paper the harmful prompt is words and a picture, and its harmless look-alike is the
same words with a harmless picture: the refusal must hang on the two together. Where the retain examples hold such rows
(their `request` is that of the harmful example) they are used. In text alone there is no second half to change, so the
look-alike is a harmless request in the very same format as the harmful one: the same pointing instruction, the same
empty list. The refusal must then hang on the request and not on its format.

The defaults are the paper's PO+PD, all weights 1 (its code takes the first two terms in one mean). Its GD+PD is
`forget_weight: 1, refuse_weight: 0, retain_ce_weight: 0.5, decouple_weight: 0.5`.
"""

from pydantic import Field
from torch import Tensor

from unsay.methods.ascent import bounded
from unsay.methods.base import Companion, LossTerms, Needs, RetainCeSettings, RoleBatch, retain_terms
from unsay.records import Role


class PromptDecoupleSettings(RetainCeSettings):
    """Weights of the terms, and the bound of the ascent."""

    refuse_weight: float = Field(1.0, ge=0, description="weight of the descent on safe answers")
    forget_weight: float = Field(0.0, ge=0, description="weight of the ascent on harmful answers")
    forget_cap: float | None = Field(
        None, gt=0, description="nats per token beyond which an example pushes no more; null is the published form"
    )
    decouple_weight: float = Field(
        1.0, gt=0, description="weight of the descent on normal answers to harmless prompts that look like harmful ones"
    )


class PromptDecouple:
    """Refuse the request, not what stands around it."""

    def __init__(self, settings: PromptDecoupleSettings) -> None:
        self.settings = settings

    @property
    def needs(self) -> Needs:
        """The roles that have a weight, and a harmless look-alike of every harmful prompt."""
        forget = {Role.FORGET} if self.settings.forget_weight else set()
        refuse = {Role.REFUSE} if self.settings.refuse_weight or not forget else set()
        return Needs(
            roles=frozenset(forget | refuse) | self.settings.anchored,
            companions={Companion.DECOUPLE: Role.REFUSE if refuse else Role.FORGET},
            kl=self.settings.kl,
        )

    def loss(self, batch: RoleBatch) -> LossTerms:
        """`η_r · CE_refuse + retain terms + η_d · CE_decouple − η_f · mean_i min(CE_i, cap)`; CE in nats per token."""
        settings, roles = self.settings, self.needs.roles
        decouple = batch[Companion.DECOUPLE].cross_entropy().mean()
        terms: dict[str, Tensor] = {"decouple": settings.decouple_weight * decouple, **retain_terms(batch, settings)}
        meters = {"decouple_ce": decouple.detach()}
        if Role.REFUSE in roles:
            refuse = batch[Role.REFUSE].cross_entropy().mean()
            terms["refuse"], meters["refuse_ce"] = settings.refuse_weight * refuse, refuse.detach()
        if Role.FORGET in roles:
            forget = batch[Role.FORGET].cross_entropy()
            terms["forget"] = -settings.forget_weight * bounded(forget, settings.forget_cap).mean()
            meters["forget_ce"] = forget.detach().mean()
        return LossTerms(terms, meters)
