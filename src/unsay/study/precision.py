"""What `fastest` comes to in a study: decided once, by the first of its runs, wherever that was done."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import get_args

import torch

from unsay.config import RunConfig
from unsay.models.precision import Fast, settled
from unsay.pipeline.run import begun_in


def settled_config(config: RunConfig, folders: Iterable[Path], elsewhere: Fast | None) -> RunConfig:
    """The settings with `fastest` replaced, for the precision decides the numbers, and so is a part of what a run is.

    Args:
        config: settings of a run. On an accelerator they stay as they are: a launcher's own machine need not have it.
        folders: run directories; what the first of them that has these settings was begun in comes first.
        elsewhere: what the runs that were handed over were made in (`made_in`) comes next; the stopwatch comes last.
    """
    if torch.device(config.device).type != "cpu":
        return config
    begun = next((found for folder in folders if (found := begun_in(folder, config)) is not None), None)
    if begun is not None:
        return config.model_copy(update={"model_settings": begun})
    if elsewhere is not None and config.model_settings.dtype == "fastest":
        return _in(config, elsewhere)
    return config.model_copy(update={"model_settings": settled(config.model_settings, config.device)})


def made_in(config: RunConfig, known: Callable[[RunConfig], bool]) -> Fast | None:
    """The precision of a run that was handed over; None if `fastest` is not asked for, or that run has other settings.

    Such a run has no settings, only their key, so every precision that `fastest` can come to is tried.

    Args:
        config: settings of the untrained model's evaluation.
        known: whether the run that was handed over has these settings.
    """
    if config.model_settings.dtype != "fastest" or torch.device(config.device).type != "cpu":
        return None
    return next((dtype for dtype in get_args(Fast) if known(_in(config, dtype))), None)


def _in(config: RunConfig, dtype: Fast) -> RunConfig:
    return config.model_copy(update={"model_settings": config.model_settings.model_copy(update={"dtype": dtype})})
