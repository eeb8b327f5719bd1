"""What a run will take, before it is run: parameters, memory, operations, time."""

from unsay.planning.choose import Choice, Fit, choose, first_that_fits, for_launch
from unsay.planning.estimate import GPUS, Gpu, Memory, Plan, outline, parse_gpus, plan

__all__ = [
    "GPUS",
    "Choice",
    "Fit",
    "Gpu",
    "Memory",
    "Plan",
    "choose",
    "first_that_fits",
    "for_launch",
    "outline",
    "parse_gpus",
    "plan",
]
