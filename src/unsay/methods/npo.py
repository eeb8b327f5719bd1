"""Negative preference optimisation (Zhang et al. 2024, arXiv 2404.05868).

    L = − (2/β) · mean_i log σ(−β · log(π(y_i|x_i) / π_original(y_i|x_i))) + CE(normal prompt, normal answer)

with the log-probability of the whole harmful answer, summed over its tokens. It is ascent whose step shrinks as the
answer becomes less likely than it was: its gradient is that of ascent on the same sum times `2r/(1 + r)`, with
`r = (π/π_original)^β`.
The second term is the paper's NPO+RT, its best variant; `retain_ce_weight: 0` gives NPO alone.
"""

from pydantic import Field
from torch import Tensor
from torch.nn.functional import logsigmoid

from unsay.methods.base import LossTerms, Needs, RetainCeSettings, RoleBatch, retain_terms
from unsay.records import Role


class NpoSettings(RetainCeSettings):
    """Weights and inverse temperature; the defaults are the paper's."""

    forget_weight: float = Field(1.0, ge=0, description="weight of the preference against harmful answers")
    beta: float = Field(0.1, gt=0, description="β; towards 0 it becomes gradient ascent")


def against(log_ratio: Tensor, beta: float) -> Tensor:
    """`−(2/β) · log σ(−β · log_ratio)` of each example, [n]; log-ratios in nats."""
    return -2 / beta * logsigmoid(-beta * log_ratio)


class Npo:
    """Ascent that weakens as the answer becomes less likely."""

    def __init__(self, settings: NpoSettings) -> None:
        self.settings = settings

    @property
    def needs(self) -> Needs:
        """Harmful answers under both models, and normal ones."""
        forget = frozenset({Role.FORGET})
        return Needs(roles=forget | self.settings.anchored, reference=forget, kl=self.settings.kl)

    def loss(self, batch: RoleBatch) -> LossTerms:
        """`w · mean_i against(log-ratio_i) + retain terms`."""
        view = batch[Role.FORGET]
        term = self.settings.forget_weight * against(view.total(view.log_ratio()), self.settings.beta).mean()
        return LossTerms(
            {"forget": term, **retain_terms(batch, self.settings)},
            {"forget_ce": view.cross_entropy().detach().mean()},
        )
