"""Ascent on harmful answers, alone and with an anchor: the baselines of TOFU (Maini et al. 2024, arXiv 2401.06121).

    gradient ascent (arXiv 2210.01504)       L = − CE(harmful prompt, harmful answer)
    gradient difference (arXiv 2203.12817)   L = − CE(harmful prompt, harmful answer) + CE(normal prompt, normal answer)
    KL minimisation (arXiv 2401.06121)       L = − CE(harmful prompt, harmful answer) + KL(original ‖ current)

each over answer tokens only, KL on normal data. Textual unlearning is KL minimisation with a term for refusals.
"""

from pydantic import Field
from torch import Tensor

from unsay.methods.base import (
    LossTerms,
    MethodSettings,
    Needs,
    RetainCeSettings,
    RetainSettings,
    RoleBatch,
    retain_terms,
)
from unsay.records import Role


class AscentSettings(MethodSettings):
    """Weight and bound of the ascent; the defaults are the published, unbounded form."""

    forget_weight: float = Field(1.0, ge=0, description="weight of the ascent on harmful answers")
    forget_cap: float | None = Field(
        None,
        gt=0,
        description="an example whose harmful answer costs more nats per token than this is forgotten enough and "
        "pushes no more; null gives the published, unbounded form",
    )


def bounded(cross_entropy: Tensor, cap: float | None) -> Tensor:
    """`min(CE_i, cap)`, [n]; clamping also stops the gradient of examples beyond the cap."""
    return cross_entropy if cap is None else cross_entropy.clamp_max(cap)


def ascent(batch: RoleBatch, settings: AscentSettings) -> LossTerms:
    """`− w · mean_i min(CE_i, cap)`; CE in nats per answer token."""
    forget = batch[Role.FORGET].cross_entropy()
    term = -settings.forget_weight * bounded(forget, settings.forget_cap).mean()
    return LossTerms({"forget": term}, {"forget_ce": forget.detach().mean()})


class GradientAscentSettings(AscentSettings):
    """Weight and bound of the one term."""


class GradientAscent:
    """Make harmful answers unlikely; keep nothing."""

    needs = Needs(roles=frozenset({Role.FORGET}))

    def __init__(self, settings: GradientAscentSettings) -> None:
        self.settings = settings

    def loss(self, batch: RoleBatch) -> LossTerms:
        """`− w · mean_i min(CE_i, cap)`; CE in nats per answer token."""
        return ascent(batch, self.settings)


class GradDiffSettings(AscentSettings, RetainCeSettings):
    """Weights of the two terms, and the bound of the first; both weights are 1 as published."""


class KlMinSettings(AscentSettings, RetainSettings):
    """Weights of the two terms, and the bound of the first; both weights are 1 as published."""


class _AnchoredAscent:
    """Ascent on harmful answers with the retain terms."""

    def __init__(self, settings: GradDiffSettings | KlMinSettings) -> None:
        self.settings = settings

    @property
    def needs(self) -> Needs:
        """Harmful answers, and normal examples if a retain weight asks for them."""
        return Needs(roles=frozenset({Role.FORGET}) | self.settings.anchored, kl=self.settings.kl)

    def loss(self, batch: RoleBatch) -> LossTerms:
        """`− w · mean_i min(CE_i, cap) + retain terms`; CE in nats per answer token."""
        forget = ascent(batch, self.settings)
        return LossTerms({**forget.terms, **retain_terms(batch, self.settings)}, forget.meters)


class GradDiff(_AnchoredAscent):
    """Up on harmful answers, down on normal ones."""


class KlMin(_AnchoredAscent):
    """Forget, and otherwise stay as you were."""
