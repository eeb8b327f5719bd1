"""In which precision a run's model learned and answered: scores are those of these weights, and of no others."""

from pydantic import JsonValue

from unsay.config import RunConfig
from unsay.errors import UserError
from unsay.models.loading import stored_precision


def asked_in(config: RunConfig) -> dict[str, JsonValue]:
    """What the weights were held in, by name; nothing of a server's, which does not tell.

    Args:
        config: the settings of a run directory, where `fastest` is settled.
    """
    if config.evaluation.responder is not None:
        return {}
    return {"dtype": held_in(config), "quantisation": config.model_settings.quantisation}


def in_words(config: RunConfig) -> str:
    """`bfloat16`, or `4 bits`."""
    return "4 bits" if config.model_settings.quantisation is not None else held_in(config)


def held_in(config: RunConfig) -> str:
    """The precision of the weights that are not stored in 4 bits; `auto` where nothing here tells."""
    if config.model_settings.dtype != "auto":
        return config.model_settings.dtype
    try:
        return stored_precision(config.model)
    except UserError:
        return "auto"  # a run whose stages are all there must not fail at its end because a hub is away
