"""What a run will take, before it is run: parameters, memory, operations, time."""

from unsay.planning.choosing import Choice, choose
from unsay.planning.estimate import Memory, Plan, outline, plan
from unsay.planning.fitting import Fit, first_that_fits
from unsay.planning.gpus import GPUS, Gpu, parse_gpus
from unsay.planning.launching import for_launch

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
