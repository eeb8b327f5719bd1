"""From a study file to the runs that it asks for.

From a study file to the runs that it asks for.

A study on another base: what was fitted to the model of its own gives way to what the new one has.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from unsay.config import RunConfig, read_config
from unsay.errors import UserError
from unsay.files import first_problem
from unsay.presets import preset, preset_names
from unsay.run.directory import check_device
from unsay.studies.settings import (
    DEMO,
    POCKET,
    SHARED,
    Arm,
    Modality,
    Rule,
    StudySettings,
    first_of,
    folder_name,
    merged,
    place_of,
)

CEILING = 4
"""Under a budget of tokens or seconds, steps end a run only at this many times the steps that were asked for.

The report says of a run that it was ended so."""


@dataclass(frozen=True)
class Variant:
    """One arm under one rule on one model, with all its seeds.

    Attributes:
        arm: the arm's name.
        title: for people.
        model: as in a run's configuration.
        rule: what it has in common with the other arms under the same rule.
        rules: the rules that its runs serve: more than one only for the reference.
        values: settings of its runs, without seed and budget.
    """

    arm: str
    title: str
    model: str
    rule: Rule
    rules: tuple[Rule, ...]
    values: dict[str, Any]

    @property
    def name(self) -> str:
        """Name within its model, also of its folder."""
        return f"{self.arm}@{self.rule}"


@dataclass(frozen=True)
class Plan:
    """Everything that is to be run.

    Attributes:
        study: the settings.
        reference: the arm that the others are compared with.
        variants: all, the reference of each model before whatever needs it.
    """

    study: StudySettings
    reference: str
    variants: tuple[Variant, ...]

    def base_config(self, model: str) -> RunConfig:
        """The run that evaluates a model without training."""
        return _config({**_model_values(self.study, model), "seed": 0}, "study")

    def is_reference(self, variant: Variant) -> bool:
        """Whether the others are compared with this one."""
        return variant.arm == self.reference

    def config(self, variant: Variant, seed: int, limit: float | None = None) -> RunConfig:
        """Settings of one run.

        Args:
            variant: which.
            seed: of data and training.
            limit: tokens or seconds, as the variant's rule has it; None for steps.
        """
        values = {**variant.values, "seed": seed}
        train = dict(values.get("train", {}))
        where = f"study, arm '{variant.arm}'"
        steps = self.study.budget.steps or _config(values, where).train.steps
        train["steps"] = steps if variant.rule == "steps" else CEILING * steps
        if variant.rule == "tokens" and limit is not None:
            train["max_tokens"] = int(limit)
        if variant.rule == "seconds" and limit is not None:
            train["max_seconds"] = limit
        return _config({**values, "train": train}, where)


def plan(study: StudySettings) -> Plan:
    """All runs of a study; every configuration is checked here, before anything is run.

    Raises:
        UserError: an unknown preset, an arm of an unknown name, settings that a run refuses, or the demo's for another
            model; names the arm or the model.
    """
    arms = arms_of(study)
    reference = reference_of(study)
    if reference not in arms:
        raise UserError(f"study: reference: there is no arm '{reference}'; there are {', '.join(arms)}")
    slugs = [folder_name(model) for model in study.models]
    if len(set(slugs)) < len(slugs):
        raise UserError("study: models: two of them have the same last part, which is the name of their folder")
    _check_base(study)
    _check_budget(study, base_values(study))
    for name, arm in arms.items():
        _check_arm(name, arm.settings)
    found: list[Variant] = []
    for model in study.models:
        under = _model_values(study, model)
        if model in study.model_settings:
            _config(under, f"study, model_settings.{model}")
        for name in sorted(arms, key=lambda name: name != reference):
            values = merged(under, arms[name].settings)
            title = arms[name].title or name
            made = Plan(study, reference, ())
            for rule, rules in _rules(study, name == reference):
                variant = Variant(name, title, model, rule, rules, values)
                if made.config(variant, study.seeds[0], 1).evaluation.responder is not None:
                    raise UserError(f"study, arm '{name}': evaluation.responder: a server cannot answer for an arm")
                found.append(variant)
    return Plan(study, reference, tuple(found))


def quickened(study: StudySettings) -> StudySettings:
    """The study as `--quick` runs it.

    Raises:
        UserError: an arm that there is not, or a budget that is measured after more steps than there are then.
    """
    quick, arms = study.quick, arms_of(study)
    names = arms if quick.only is None else quick.only
    if strange := next((name for name in names if name not in arms), None):
        raise UserError(f"study: quick.only: there is no arm '{strange}'; there are {', '.join(arms)}")
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
            "settings": merged(study.settings, quick.settings),
            "model_settings": {model: merged(own, quick.settings) for model, own in study.model_settings.items()},
            "budget": budget,
            "grid": None,
            "arms": {name: arm for name, arm in arms.items() if name in names},
        }
    )


def _rules(study: StudySettings, reference: bool) -> Iterator[tuple[Rule, tuple[Rule, ...]]]:
    """The rules that an arm is trained under, each with those that the same runs serve."""
    budget, measured = study.budget, measured_rules(study)
    if reference:
        own = tuple(r for r in budget.equal if r == "steps" or (r in measured and budget.at_steps is None))
        if own or measured:
            yield "steps", own
        rest = [rule for rule in budget.equal if rule not in own]
    else:
        rest = list(budget.equal)
    for rule in rest:
        yield rule, (rule,)


def measured_rules(study: StudySettings) -> tuple[Rule, ...]:
    """The rules whose budget is what the reference arm used."""
    given = {"tokens": study.budget.tokens, "seconds": study.budget.seconds}
    return tuple(rule for rule in study.budget.equal if rule in given and given[rule] is None)


def reference_of(study: StudySettings) -> str:
    """The name of the arm that the others are compared with; there may be no such arm."""
    return study.reference if study.reference is not None else next(iter(arms_of(study)))


def arms_of(study: StudySettings) -> dict[str, Arm]:
    """The arms of the grid, then those that have a name of their own."""
    arms: dict[str, Arm] = {}
    for name, arm in (*_grid(study), *study.arms.items()):
        if name in arms:
            twice = f"arms.{name}: the grid has an arm of that name too"
            raise UserError(f"study: {twice if name in study.arms else f'grid: two of its arms are {name}'}")
        arms[name] = arm
    return arms


def _grid(study: StudySettings) -> Iterator[tuple[str, Arm]]:
    if study.grid is None:
        return
    several = len(study.grid.modalities) > 1
    for method in study.grid.methods:
        for modality in study.grid.modalities:
            kind = modality_name(modality)
            title = f"{method}, {kind}" if several or kind != "text" else method
            settings = {"method": method, "data": {"modality": modality}}
            yield f"{method}-{kind}" if several else method, Arm(title=title, settings=settings)


def _check_arm(name: str, settings: Mapping[str, Any]) -> None:
    """What all arms must have in common is no arm's to change: then they would differ in more than they say."""
    if path := first_of(SHARED, settings):
        raise UserError(
            f"study, arm '{name}': {path}: is the same for all arms; set it in the study's `{SHARED[path]}`"
        )


def _check_base(study: StudySettings) -> None:
    """The demo's learning rate, batch and lengths would train and ask any other model wrongly, without a word."""
    if study.base != DEMO:
        return
    if other := next((name for name in study.models if name != POCKET and not study.model_settings.get(name)), None):
        raise UserError(
            f"study: model '{other}': the base is `{DEMO}`, whose learning rate, batch and answer lengths were fitted "
            f"to `{POCKET}`: give --base, a preset such as llava-1.5-7b or a file of settings; in a study file, `base` "
            "or `model_settings`"
        )


def _check_budget(study: StudySettings, base: Mapping[str, Any]) -> None:
    budget = study.budget
    if budget.at_steps is not None:
        steps = budget.steps or _config(dict(base), "study").train.steps
        if budget.at_steps > steps:
            place = "budget.steps" if budget.steps is not None else "train.steps"
            raise UserError(f"study: budget.at_steps: {budget.at_steps} is more than {place}, {steps}")
    train = base.get("train") or {}
    for key, rule in (("max_tokens", "tokens"), ("max_seconds", "seconds")):
        if train.get(key) is not None:
            raise UserError(f"study: train.{key}: of a study, set budget.{rule} instead")


def modality_name(modality: Modality) -> str:
    """`text`, or `text+image` for a mixture."""
    return modality if isinstance(modality, str) else "+".join(modality)


def base_values(study: StudySettings) -> dict[str, Any]:
    """What all models and arms start from: the base, with the study's settings over it."""
    if isinstance(study.base, dict):
        base = study.base
    else:
        # The seed of the training follows the run's, so neither is part of a base.
        base = preset(study.base).model_dump(mode="json", exclude={"seed": True, "train": {"seed"}})
    return merged(base, study.settings)


def _model_values(study: StudySettings, model: str) -> dict[str, Any]:
    """What the arms of one model start from."""
    return {**merged(base_values(study), study.model_settings.get(model, {})), "model": model}


def _config(values: dict[str, Any], where: str) -> RunConfig:
    try:
        config = RunConfig.model_validate(values)
        _check_name(config.device)
        return config
    except ValidationError as error:
        raise UserError(f"{where}: {first_problem(error)}") from None
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def _check_name(device: str) -> None:
    """Only whether there are such devices: a launcher's own machine need not have one.

    Raises:
        UserError: there are none.
    """
    try:
        torch.device(device)
    except RuntimeError:
        check_device(device)


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
