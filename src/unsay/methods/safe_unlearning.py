"""Safe Unlearning (Zhang et al. 2024, arXiv 2407.02855): refuse, unlearn a little, keep the rest.

    L = θ · CE(harmful prompt, safe answer)
        − α · mean_i log σ(−(β/|y_i|) · log(π(y_i|x_i) / π_original(y_i|x_i)))
        + CE(normal prompt, normal answer)

NPO per token of the answer and without its factor 2/β, beside descent on refusals. The default weights α 0.3, β 1 and
θ 0.5 are those of the authors' training script (github.com/thu-coai/SafeUnlearning).
"""

from pydantic import Field
from torch.nn.functional import logsigmoid

from unsay.methods.base import LossTerms, Needs, RetainCeSettings, RoleBatch, retain_terms
from unsay.records import Role


class SafeUnlearningSettings(RetainCeSettings):
    """Weights and inverse temperature; the defaults are the authors'."""

    forget_weight: float = Field(0.3, ge=0, description="α of the preference against harmful answers")
    refuse_weight: float = Field(0.5, ge=0, description="θ of the descent on safe answers")
    beta: float = Field(1.0, gt=0, description="β, per nat and token of an answer's log-ratio")


class SafeUnlearning:
    """Refuse, push harmful answers down gently, keep the rest."""

    def __init__(self, settings: SafeUnlearningSettings) -> None:
        self.settings = settings

    @property
    def needs(self) -> Needs:
        """All three roles, harmful answers under both models."""
        return Needs(
            roles=frozenset({Role.FORGET, Role.REFUSE}) | self.settings.anchored,
            reference=frozenset({Role.FORGET}),
            kl=self.settings.kl,
        )

    def loss(self, batch: RoleBatch) -> LossTerms:
        """`θ · mean_i CE_i + α · mean_i −log σ(−β · log-ratio_i) + retain terms`, all per answer token."""
        view = batch[Role.FORGET]
        refuse = batch[Role.REFUSE].cross_entropy().mean()
        push = -logsigmoid(-self.settings.beta * view.per_example(view.log_ratio())).mean()
        terms = {
            "forget": self.settings.forget_weight * push,
            "refuse": self.settings.refuse_weight * refuse,
            **retain_terms(batch, self.settings),
        }
        return LossTerms(terms, {"forget_ce": view.cross_entropy().detach().mean(), "refuse_ce": refuse.detach()})
