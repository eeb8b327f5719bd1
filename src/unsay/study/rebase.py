"""A study on another base: what was fitted to the model of its own gives way to what the new one has."""

from pathlib import Path

from pydantic import ValidationError

from unsay.config import RunConfig, read_config
from unsay.errors import UserError
from unsay.files import first_problem
from unsay.presets import preset, preset_names
from unsay.study.plan import base_values
from unsay.study.settings import StudySettings, place_of


def rebased(study: StudySettings, base: str) -> StudySettings:
    """The study with another base.

    Parts that were fitted to the old one (`fitted`) are left out, or take the new one's weights. The model is the new
    base's, unless the study names its own.

    Args:
        study: as it was read.
        base: a preset's name, or a file with settings of a run.

    Raises:
        UserError: neither, or a base that trains with another method.
    """
    named = base in preset_names() and not Path(base).exists()
    config = preset(base) if named else _read(base)
    values = study.model_dump(mode="json")
    for path in study.fitted.left_out:
        if (found := place_of(values, path)) is not None:  # else it went with a part that it stands in
            section, key = found
            del section[key]
    for arm in study.fitted.shared:
        weights = values["arms"].get(arm, {}).get("settings", {}).get("method_settings", {})
        weights |= {name: config.method_settings[name] for name in weights if name in config.method_settings}
    # The seed of the training follows the run's, so neither is part of a base.
    settings = config.model_dump(mode="json", exclude={"seed": True, "train": {"seed"}})
    values |= {"base": base if named else settings, "fitted": {}}
    if "model" in config.model_fields_set and "models" not in study.model_fields_set:
        values["models"] = [config.model]
    try:
        made = StudySettings.model_validate(values)
    except ValidationError as error:
        raise UserError(f"--base {base}: {first_problem(error)}") from None
    before, after = _method(study), _method(made)
    if before != after:
        raise UserError(
            f"--base {base}: it trains with {after}, the study's own base with {before}, and arms that name no method "
            "would not be what they are called; write a study file"
        )
    return made


def _read(path: str) -> RunConfig:
    if not Path(path).exists() and Path(path).suffix not in (".yaml", ".yml"):
        raise UserError(f"--base: unknown '{path}'; known are {', '.join(preset_names())}, or give a YAML file")
    return read_config(Path(path))


def _method(study: StudySettings) -> str:
    return str(base_values(study).get("method", RunConfig.model_fields["method"].default))
