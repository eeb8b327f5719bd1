"""Ascent on harmful answers, which several methods share: raw as published, or bounded."""

from pydantic import Field
from torch import Tensor

from unsay.methods.base import MethodSettings


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
