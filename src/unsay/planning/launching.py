"""Settings for as many processes as a launcher starts: what training would refuse is mended here, or refused."""

from dataclasses import replace

from unsay.config import RunConfig
from unsay.errors import UserError
from unsay.methods import build_method
from unsay.methods.base import Needs
from unsay.planning.choosing import Choice
from unsay.presets import processes_of
from unsay.training.settings import TrainSettings
from unsay.training.share import check_shares


def for_launch(start: Choice, launch: str, gpus: tuple[int, str] | None = None) -> Choice:
    """The same start, with steps that the launcher's processes can share.

    Args:
        start: what a run starts from.
        launch: `ddp`, `fsdp2` or `zero3`.
        gpus: the cards that `start` was made to fit, if any.

    Raises:
        UserError: 4 bits that would be split, rows that do not divide by the processes, or other cards than those.
    """
    processes = processes_of(launch)
    config = RunConfig() if start.config is None else start.config
    if gpus is not None and gpus[0] != processes:
        raise UserError(
            f"--launch {launch}: starts {processes} processes, each with a card of its own, and --gpus has "
            f"{gpus[0]}: give {processes}x{gpus[1]}, or leave --launch out"
        )
    if launch != "ddp" and config.model_settings.quantisation is not None:
        raise UserError(
            f"--launch {launch}: 4 bits (model_settings.quantisation) cannot be split over processes: take "
            "--launch ddp, or a preset without -24gb"
        )
    needs = build_method(config.method, config.method_settings).needs
    turns = _turns(needs, config.train, processes)
    train = config.train.model_copy(update={"accumulate": turns})
    try:
        check_shares(needs, train, processes)
    except UserError as error:
        raise UserError(f"--launch {launch}: {error}") from error
    if turns == config.train.accumulate:
        return start
    reason = (
        f"train.accumulate is {turns} instead of {config.train.accumulate}: {processes} processes share the rows of a "
        "step. The result is the same."
    )
    return replace(start, config=config.model_copy(update={"train": train}), reasons=(*start.reasons, reason))


def _turns(needs: Needs, settings: TrainSettings, processes: int) -> int:
    """The most turns, up to those of the settings, into which every role's rows divide; 1 where none do."""
    for turns in range(settings.accumulate, 1, -1):
        if not any(settings.batch.of(role) % (processes * turns) for role in needs.roles):
            return turns
    return 1
