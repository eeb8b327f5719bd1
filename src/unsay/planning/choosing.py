"""Settings for a model that has no preset, and for the cards that it is to be trained on."""

from dataclasses import dataclass

from unsay.config import RunConfig
from unsay.errors import UserError
from unsay.models.loading import NAMED
from unsay.planning.estimate import Plan, outline, plan
from unsay.planning.fitting import Fit, first_that_fits
from unsay.planning.gpus import GIB, GPUS
from unsay.planning.table import room
from unsay.presets import ENDS, launch_of, nearest, settings_for
from unsay.reporting.numbers import count

SMALL_CARD = 24 * GIB
"""A card with no more than this gets the settings of the presets `-24gb`."""


@dataclass(frozen=True)
class Choice:
    """What a run of a model starts from.

    Attributes:
        config: its settings; None for the defaults.
        reasons: why these, and what to do before they are run; a sentence or two each.
        launch: how it is launched; None where one process is enough.
    """

    config: RunConfig | None = None
    reasons: tuple[str, ...] = ()
    launch: str | None = None


def choose(model: str, gpus: tuple[int, str] | None = None, *, sharded: bool = False) -> Choice:
    """Settings by a model's family, its size and its cards; no weights are read.

    Args:
        model: `pocket`, a checkpoint folder, or a model id.
        gpus: 1 or 8 of a card; None takes the settings for one of 80 GB as they are.
        sharded: whether the layers will be split over the cards.

    Raises:
        UserError: its configuration cannot be read, there are no settings for so many cards, or none that fit.
    """
    if model in NAMED and gpus is None:
        return Choice(RunConfig(model=model), (f"The defaults are those of {model}, on a CPU.",))
    end = _end(gpus)
    vlm = outline(RunConfig(model=model))
    size = plan(RunConfig(model=model), vlm=vlm).parameters
    kind = vlm.base.config.model_type
    alike = nearest(kind, size)
    config = settings_for(model, kind, size, ENDS[end])
    family = (
        f"No preset is of its family ({kind}): settings by size alone"
        if alike is None
        else f"Settings as for its family ({kind}, preset {alike}{end}) and size"
    )
    reasons = [f"{model} has {count(size)} parameters. {family}."]
    if gpus is not None:

        def planned(config: RunConfig, answer: int) -> Plan:
            return plan(config, gpus, answer=answer, sharded=sharded, vlm=vlm)

        answer = config.train.max_answer_tokens
        made = planned(config, answer)
        fit = Fit(config, (), made) if made.fits else first_that_fits(config, answer, planned)
        if fit is None:
            raise UserError(
                f"--gpus: training {model} does not fit {_words(gpus)}, not in 4 bits either: take larger cards"
            )
        config = fit.config
        if fit.changes:
            reasons.append(f"Changed so that it fits: {'; '.join(fit.changes)}.")
        reasons.append(
            f"Training then takes {room(fit.plan)} on each card ({_words(gpus)}): computed by `unsay plan`, evaluation "
            "not counted, and not measured."
        )
    reasons.append("Steps and learning rate are starting points that nobody has measured: watch the report.")
    return Choice(config, tuple(reasons), launch_of(end))


def _end(gpus: tuple[int, str] | None) -> str:
    """How a preset for these cards would be called at its end."""
    if gpus is None:
        return ""
    cards, name = gpus
    if cards not in (1, 8):
        raise UserError(
            f"--gpus: there are settings for 1 and for 8 cards, not for {cards}: start from 8x{name}, and set "
            "train.batch and num_processes"
        )
    if cards == 8:
        return "-8gpu"
    return "-24gb" if GPUS[name].memory_bytes <= SMALL_CARD else ""


def _words(gpus: tuple[int, str]) -> str:
    return f"{gpus[0]}x{gpus[1]}"
