"""Negated task vector (Ilharco et al. 2022, arXiv 2212.04089): learn to say harm, then subtract what was learnt.

    L = CE(harmful prompt, harmful answer);    θ_unlearnt = θ_original − λ · (θ_trained − θ_original)

For an adapter the difference is the update itself, so a negated adapter is the negated task vector (Zhang et al. 2023,
arXiv 2306.14870). Loss and meters show the adapter that is being learnt; the probe, the saved adapter and every
evaluation have the negated one. The paper chooses λ between 0 and 1 on held-out data.
"""

from pydantic import Field

from unsay.methods.base import LossTerms, MethodSettings, Needs, RoleBatch
from unsay.records import Role


class TaskVectorSettings(MethodSettings):
    """The one coefficient."""

    scale: float = Field(1.0, gt=0, description="λ: how much of what was learnt is subtracted")


class TaskVector:
    """Learn the harmful answers, then subtract that."""

    def __init__(self, settings: TaskVectorSettings) -> None:
        self.settings = settings

    @property
    def needs(self) -> Needs:
        """Harmful answers, and an adapter that is used the other way round."""
        return Needs(roles=frozenset({Role.FORGET}), adapter_factor=-self.settings.scale)

    def loss(self, batch: RoleBatch) -> LossTerms:
        """`mean_i CE_i`, in nats per answer token."""
        forget = batch[Role.FORGET].cross_entropy().mean()
        return LossTerms({"forget": forget}, {"forget_ce": forget.detach()})
