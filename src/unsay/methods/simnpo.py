"""Simple negative preference optimisation (Fan et al. 2024, arXiv 2410.07163).

    L = − λ · (2/β) · mean_i log σ(−(β/|y_i|) · log π(y_i|x_i) − γ) + CE(normal prompt, normal answer)

NPO without the original model, per token of the answer: long answers weigh no more than short ones, and answers that
are already unlikely are left alone.
"""

from pydantic import Field
from torch.nn.functional import logsigmoid

from unsay.methods.base import LossTerms, Needs, RetainCeSettings, RoleBatch, retain_terms
from unsay.records import Role


class SimNpoSettings(RetainCeSettings):
    """Weights, inverse temperature and margin; the defaults are those published for TOFU forget10."""

    forget_weight: float = Field(0.125, ge=0, description="λ of the preference against harmful answers")
    beta: float = Field(4.5, gt=0, description="β, per nat and token of an answer's log-probability")
    gamma: float = Field(0.0, ge=0, description="γ, the margin: the larger, the longer the push goes on")


class SimNpo:
    """NPO per token, and without the original model."""

    def __init__(self, settings: SimNpoSettings) -> None:
        self.settings = settings

    @property
    def needs(self) -> Needs:
        """Harmful answers and normal ones."""
        return Needs(roles=frozenset({Role.FORGET}) | self.settings.anchored, kl=self.settings.kl)

    def loss(self, batch: RoleBatch) -> LossTerms:
        """`λ · mean_i −(2/β) log σ(β · CE_i − γ) + retain terms`; CE in nats per answer token."""
        forget = batch[Role.FORGET].cross_entropy()
        beta = self.settings.beta
        term = self.settings.forget_weight * (-2 / beta * logsigmoid(beta * forget - self.settings.gamma)).mean()
        return LossTerms({"forget": term, **retain_terms(batch, self.settings)}, {"forget_ce": forget.detach().mean()})
