"""Changes to a study as it was read: another base, some of its arms, its quick variant, options of the command line."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from unsay.config import RunConfig, read_config
from unsay.errors import UserError
from unsay.files import first_problem
from unsay.presets import preset, preset_names
from unsay.studies.plan import arms_of, base_values, measured_rules, reference_of
from unsay.studies.settings import SEEDS, Fitted, StudySettings, find_path, merge_settings


def adjusted(
    study: StudySettings,
    *,
    base: str | None = None,
    arms: str = "",
    model: str | None = None,
    seeds: str = "",
    device: str | None = None,
    quick: bool = False,
) -> StudySettings:
    """The study with the command line's options in place of its own values.

    Args:
        study: as it was read.
        base: a preset or a file.
        arms: names of the arms to run, comma-separated; the reference is added where its costs are a budget.
        model: replaces all models.
        seeds: comma-separated; they replace those of `--quick` too.
        device: a torch device.
        quick: take the smaller variant.

    Raises:
        UserError: an unknown or unsuitable base, an unknown arm, or seeds that are malformed, out of range or repeated.
    """
    if base is not None:
        study = rebased(study, base)
    if quick:
        study = quickened(study)
    if arms.strip():
        study = part(study, listed(arms))
    more: dict[str, Any] = {}
    if model is not None:
        more["models"] = (model,)
    if seeds.strip():
        try:
            more["seeds"] = tuple(int(seed) for seed in seeds.split(","))
        except ValueError:
            raise UserError(f"--seeds: '{seeds}': expected whole numbers like 0,1,2") from None
        if not all(seed in SEEDS for seed in more["seeds"]):
            raise UserError(f"--seeds: '{seeds}': a seed is at least 0 and below 2**63")
        if len(set(more["seeds"])) < len(more["seeds"]):
            raise UserError(f"--seeds: '{seeds}': a seed is given twice")
    if quick or arms.strip():
        # The base is already replaced, and `fitted` may name arms that the smaller study no longer has.
        more["fitted"] = Fitted()
    if device is not None:
        more["settings"] = {**study.settings, "device": device}
        more["model_settings"] = {
            name: {key: value for key, value in own.items() if key != "device"}
            for name, own in study.model_settings.items()
        }
    return study.model_copy(update=more)


def part(study: StudySettings, names: Sequence[str]) -> StudySettings:
    """The study with some of its arms, and with its reference where a budget is what the reference used.

    Its runs have the same keys as in the whole study, so parts can be joined. A part without the reference compares its
    arms with the first of them.

    Raises:
        UserError: no arm, or an unknown one.
    """
    arms, reference = arms_of(study), reference_of(study)
    if not names:
        raise UserError(f"--arms: expected names like {','.join(list(arms)[:2])}")
    if unknown := next((name for name in names if name not in arms), None):
        raise UserError(f"--arms: unknown arm '{unknown}'; arms: {', '.join(arms)}")
    needed = {*names, *([reference] if measured_rules(study) else [])}
    return study.model_copy(
        update={
            "grid": None,
            "arms": {name: arm for name, arm in arms.items() if name in needed},
            "reference": reference if reference in needed else None,
        }
    )


def quickened(study: StudySettings) -> StudySettings:
    """The study as `--quick` runs it.

    Raises:
        UserError: an unknown arm, or a budget measured after more steps than the quick study has.
    """
    quick, arms = study.quick, arms_of(study)
    names = arms if quick.only is None else quick.only
    if unknown := next((name for name in names if name not in arms), None):
        raise UserError(f"study: quick.only: unknown arm '{unknown}'; arms: {', '.join(arms)}")
    smaller = {name: getattr(quick, name) for name in ("steps", "tokens", "seconds", "at_steps")}
    budget = study.budget.model_copy(update={name: value for name, value in smaller.items() if value is not None})
    if quick.steps is not None and budget.at_steps is not None and budget.at_steps > quick.steps:
        place = "budget.at_steps" if quick.at_steps is None else "quick.at_steps"
        raise UserError(
            f"study: {place}: {budget.at_steps} is more than quick.steps, {quick.steps}; give a lower quick.at_steps"
        )
    return study.model_copy(
        update={
            "seeds": quick.seeds or study.seeds,
            "settings": merge_settings(study.settings, quick.settings),
            "model_settings": {
                model: merge_settings(own, quick.settings) for model, own in study.model_settings.items()
            },
            "budget": budget,
            "grid": None,
            "arms": {name: arm for name, arm in arms.items() if name in names},
        }
    )


def rebased(study: StudySettings, base: str) -> StudySettings:
    """The study on another base: a preset's name, or a file with settings of a run.

    Parts that were fitted to the old base (`fitted`) are left out, or take the new base's weights. The model is the new
    base's, unless the study names its own.

    Raises:
        UserError: neither a preset nor a file, or a base that trains with another method.
    """
    named = base in preset_names() and not Path(base).exists()
    config = preset(base) if named else _read_base(base)
    values = study.model_dump(mode="json")
    for path in study.fitted.left_out:
        if (place := find_path(values, path)) is not None:  # else it went with the part that contained it
            section, key = place
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
        result = StudySettings.model_validate(values)
    except ValidationError as error:
        raise UserError(f"--base {base}: {first_problem(error)}") from None
    before, after = _method(study), _method(result)
    if before != after:
        raise UserError(
            f"--base {base}: it trains with {after}, the study's own base with {before}, and arms that name no method "
            "would not be what they are called; write a study file"
        )
    return result


def _read_base(path: str) -> RunConfig:
    if not Path(path).exists() and Path(path).suffix not in (".yaml", ".yml"):
        raise UserError(f"--base: unknown '{path}'; known are {', '.join(preset_names())}, or give a YAML file")
    return read_config(Path(path))


def _method(study: StudySettings) -> str:
    return str(base_values(study).get("method", RunConfig.model_fields["method"].default))


def listed(names: str) -> list[str]:
    """Names, comma-separated, each once."""
    return list(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))
