"""Mixed batches, the one trainer, checkpoints."""

from unsay.training.plan import TrainingPlan, plan_training
from unsay.training.settings import BatchSettings, StopSettings, TrainSettings
from unsay.training.trainer import TrainResult, train

__all__ = [
    "BatchSettings",
    "StopSettings",
    "TrainResult",
    "TrainSettings",
    "TrainingPlan",
    "plan_training",
    "train",
]
