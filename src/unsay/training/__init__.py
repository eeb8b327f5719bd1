"""Mixed batches, the one trainer, checkpoints."""

from unsay.training.plan import TrainingPlan, plan_training
from unsay.training.session import TrainResult, train
from unsay.training.settings import AdversarialSettings, BatchSettings, StopSettings, TrainSettings

__all__ = [
    "AdversarialSettings",
    "BatchSettings",
    "StopSettings",
    "TrainResult",
    "TrainSettings",
    "TrainingPlan",
    "plan_training",
    "train",
]
