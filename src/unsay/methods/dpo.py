"""Direct preference optimisation (Rafailov et al. 2023, arXiv 2305.18290, equation 7), a refusal over one's own answer.

    L = − (2/β) · mean_i log σ(β · (log π/π_original(safe_i|x_i) − log π/π_original(harmful_i|x_i)))
        + CE(normal prompt, normal answer)

with log-probabilities of whole answers, summed over their tokens, and both answers to the very same prompt. The factor
2/β and the second term are those of the baseline DPO+RT in the code of the NPO authors (arXiv 2404.05868).
"""

from pydantic import Field
from torch.nn.functional import logsigmoid

from unsay.methods.base import Companion, LossTerms, Needs, RetainCeSettings, RoleBatch, retain_terms
from unsay.records import Role


class DpoSettings(RetainCeSettings):
    """Weights and inverse temperature; the defaults are those of the NPO paper."""

    preference_weight: float = Field(1.0, ge=0, description="weight of the preference of safe over harmful answers")
    beta: float = Field(0.1, gt=0, description="β; the smaller, the further from the original model")


class Dpo:
    """Prefer a refusal to what you would have said."""

    def __init__(self, settings: DpoSettings) -> None:
        self.settings = settings

    @property
    def needs(self) -> Needs:
        """Pairs of a harmful and a safe answer under both models, and normal answers."""
        return Needs(
            roles=frozenset({Role.FORGET}) | self.settings.anchored,
            companions={Companion.REFUSAL: Role.FORGET},
            reference=frozenset({Role.FORGET, Companion.REFUSAL}),
            kl=self.settings.kl,
        )

    def loss(self, batch: RoleBatch) -> LossTerms:
        """`w · mean_i −(2/β) log σ(β · margin_i) + retain terms`; row i of both views is one pair."""
        safe, harmful = batch[Companion.REFUSAL], batch[Role.FORGET]
        margin = safe.total(safe.log_ratio()) - harmful.total(harmful.log_ratio())  # [n], nats
        beta = self.settings.beta
        term = self.settings.preference_weight * (-2 / beta * logsigmoid(beta * margin)).mean()
        meters = {
            "forget_ce": harmful.cross_entropy().detach().mean(),
            "refuse_ce": safe.cross_entropy().detach().mean(),
            "preferred": (margin.detach() > 0).float().mean(),
        }
        return LossTerms({"preference": term, **retain_terms(batch, self.settings)}, meters)
