"""The anchors that methods share: stay as the original was on normal data, or go on saying what was said there."""

from pydantic import Field
from torch import Tensor

from unsay.methods.base import MethodSettings, Part, RoleBatch
from unsay.records import Role


class RetainSettings(MethodSettings):
    """How strongly the model is held to the original on normal data.

    Every method has the three weights; which of them is not 0 by default is its paper's choice. With all three at 0 no
    normal examples are needed.
    """

    retain_weight: float = Field(1.0, ge=0, description="weight of KL(original ‖ current), mean over answer tokens")
    decision_weight: float = Field(
        0.0,
        ge=0,
        description="extra weight of the same KL at the answer's first token alone; a benign answer that flips into a "
        "refusal does so there, and a mean over tokens hardly sees it; 0 gives the paper's term",
    )
    retain_ce_weight: float = Field(
        0.0, ge=0, description="weight of the descent on normal answers, in nats per answer token"
    )

    @property
    def anchored(self) -> frozenset[Role]:
        """The retain role, if any weight asks for it."""
        weights = self.retain_weight + self.decision_weight + self.retain_ce_weight
        return frozenset({Role.RETAIN}) if weights else frozenset()

    @property
    def kl(self) -> frozenset[Part]:
        """The retain role, if a weight asks for its KL."""
        return frozenset({Role.RETAIN}) if self.retain_weight + self.decision_weight else frozenset()


class RetainCeSettings(RetainSettings):
    """The same three weights for methods whose papers descend on normal answers."""

    retain_weight: float = Field(
        0.0, ge=0, description="weight of KL(original ‖ current) on normal data, mean over answer tokens"
    )
    retain_ce_weight: float = Field(
        1.0, ge=0, description="weight of the descent on normal answers, in nats per answer token"
    )


def retain_terms(batch: RoleBatch, settings: RetainSettings) -> dict[str, Tensor]:
    """`retain_weight · mean_t KL_t + decision_weight · KL_1 + retain_ce_weight · CE`, averaged over the examples.

    A term whose weight is 0 is left out.

    Raises:
        ValueError: the batch carries no KL for the retain role, and a weight asks for it.
    """
    terms: dict[str, Tensor] = {}
    if not settings.anchored:
        return terms
    view = batch[Role.RETAIN]
    if settings.kl:
        if view.kl is None:
            raise ValueError("the retain term needs KL(original ‖ current); the method must declare it in `needs.kl`")
        if settings.retain_weight:
            terms["retain"] = settings.retain_weight * view.per_example(view.kl).mean()
        if settings.decision_weight:
            terms["decision"] = settings.decision_weight * view.first_token(view.kl).mean()
    if settings.retain_ce_weight:
        terms["retain_ce"] = settings.retain_ce_weight * view.cross_entropy().mean()
    return terms
