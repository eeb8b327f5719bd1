"""The retain term that several methods share: stay as the original was on normal data."""

from pydantic import Field
from torch import Tensor

from unsay.methods.base import MethodSettings, RoleView


class RetainSettings(MethodSettings):
    """How strongly the model is held to the original on normal data."""

    retain_weight: float = Field(1.0, ge=0, description="weight of KL(original ‖ current), mean over answer tokens")
    decision_weight: float = Field(
        0.0,
        ge=0,
        description="extra weight of the same KL at the answer's first token alone; a benign answer that flips into a "
        "refusal does so there, and a mean over tokens hardly sees it; 0 gives the paper's term",
    )


def retain_terms(view: RoleView, settings: RetainSettings) -> dict[str, Tensor]:
    """`retain_weight · mean_t KL_t + decision_weight · KL_1`, averaged over the examples.

    Raises:
        ValueError: the batch carries no KL for the retain role.
    """
    if view.kl is None:
        raise ValueError("the retain term needs KL(original ‖ current); the method must declare it in `needs.kl`")
    terms = {"retain": settings.retain_weight * view.per_example(view.kl).mean()}
    if settings.decision_weight:
        terms["decision"] = settings.decision_weight * view.first_token(view.kl).mean()
    return terms
