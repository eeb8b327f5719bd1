"""Mixed batches, the one trainer, checkpoints."""

from unsay.training.plan import BatchSettings, StopSettings, TrainSettings
from unsay.training.trainer import TrainResult, train

__all__ = ["BatchSettings", "StopSettings", "TrainResult", "TrainSettings", "train"]
