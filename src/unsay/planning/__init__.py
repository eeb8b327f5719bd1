"""What a run will take, before it is run: parameters, memory, operations, time."""

from unsay.planning.estimate import Memory, Plan, plan
from unsay.planning.gpus import GPUS, Gpu, parse_gpus

__all__ = ["GPUS", "Gpu", "Memory", "Plan", "parse_gpus", "plan"]
