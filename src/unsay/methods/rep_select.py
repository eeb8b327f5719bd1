"""RepSelect (Sondej, Yang and Mahdi 2026, arXiv 2606.17168): forget where only the forget examples live.

Fine-tuning brings back what was unlearned in directions that other knowledge shares. So the leading components of the
forget examples' gradient, which are such directions, are damped before one step is taken along it:

1. Draw out: an adapter learns the harmful answers, L = CE(harmful prompt, harmful answer).
2. With that adapter on, G = ∂CE/∂W of each adapted weight matrix, added up over one pass of the forget examples.
3. G = U S Vᵀ; each of the q leading components is divided by s_i/s_q on the input side and again on the output side, so
   that s_i becomes s_q²/s_i; the others stay.
4. The adapter is dropped, and W + t · (filtered G) is used, with the largest t whose KL(original ‖ edited) on held-out
   normal answers is at most `max_kl`.

This is the authors' one-pass form with `distribution: forget` and `hard_soft: soft`, the paper's. It draws out by plain
gradient descent and takes small steps until KL is reached; here the run's own optimiser draws out, and t is searched,
which needs no learning rate. The authors edit the MLPs (`train.lora.modules: mlp`). The edit is kept as an adapter, so
what a rank of `rank` does not hold of it is cut off; t is found for what is left.
"""

from pydantic import Field

from unsay.methods.base import LossTerms, MethodSettings, Needs, RoleBatch, WeightEdit
from unsay.records import Role


class RepSelectSettings(MethodSettings):
    """How much is damped, how far the step goes, and how it is kept."""

    components: float = Field(
        0.125,
        gt=0,
        lt=1,
        description="leading components that are damped, as a share of a matrix's smaller side; the paper's are 512, "
        "of 4,096",
    )
    max_kl: float = Field(
        0.01,
        gt=0,
        description="KL(original ‖ edited) on held-out normal answers, in nats per token, that ends the step",
    )
    rank: int = Field(256, ge=1, description="rank of the adapter that holds the edit; that which learns has its own")


class RepSelect:
    """Draw harm out, then edit weights where only it lives."""

    def __init__(self, settings: RepSelectSettings) -> None:
        self.settings = settings

    @property
    def needs(self) -> Needs:
        """Harmful answers, and an edit of the weights in place of the adapter that learned them."""
        edit = WeightEdit(self.settings.components, self.settings.max_kl, self.settings.rank)
        return Needs(roles=frozenset({Role.FORGET}), edit=edit)

    def loss(self, batch: RoleBatch) -> LossTerms:
        """`mean_i CE_i`, in nats per answer token, of the first part."""
        forget = batch[Role.FORGET].cross_entropy().mean()
        return LossTerms({"forget": forget}, {"forget_ce": forget.detach()})
