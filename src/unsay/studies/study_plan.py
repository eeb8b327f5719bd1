"""The runs of a study with the settings of each, and changes to a study: another base, some arms, its quick variant."""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from pydantic import ValidationError

from unsay.config import RunConfig, read_config
from unsay.errors import UserError
from unsay.files import problems
from unsay.models import pocket
from unsay.presets import preset, preset_names
from unsay.records import Kind
from unsay.run.environment import check_device
from unsay.scoring.withstanding import HEADLINES
from unsay.studies.schema import FORMS, SEPARATIONS, TITLES
from unsay.studies.settings import (
    DEMO,
    ORIGINAL,
    POCKET,
    SEEDS,
    SHARED,
    Arm,
    Fitted,
    Modality,
    Published,
    Rule,
    StudySettings,
    find_path,
    first_present,
    folder_name,
    merge_settings,
)
from unsay.suites import find_suite

CEILING = 4
"""Under a budget of tokens or seconds, a run ends at this many times the study's steps; the report notes such runs."""


@dataclass(frozen=True)
class Variant:
    """One arm under one rule on one model, with all its seeds."""

    arm: str  # the arm's name
    title: str  # the arm's title, for people
    model: str  # as in a run's configuration
    rule: Rule  # what is equal for all arms
    rules: tuple[Rule, ...]  # the rules that its runs serve: several only for the reference
    values: dict[str, Any]  # settings of its runs, without seed and budget

    @property
    def name(self) -> str:
        """`arm@rule`, unique within its model; also the name of its folder."""
        return f"{self.arm}@{self.rule}"


@dataclass(frozen=True)
class Plan:
    """All runs of a study."""

    study: StudySettings
    reference: str  # the name of the arm that others are compared with
    variants: tuple[Variant, ...]  # all variants; the reference of each model comes before those that need it

    def base_config(self, model: str) -> RunConfig:
        """The settings of the run that evaluates an original model."""
        return _config({**_model_values(self.study, model), "seed": 0}, "study")

    def is_measured(self, variant: Variant) -> bool:
        """Whether the tokens and seconds that a variant uses are the budget of others."""
        return variant.arm == self.reference and variant.rule == "steps"

    def config(self, variant: Variant, seed: int, limit: float | None = None) -> RunConfig:
        """Settings of one run; `limit` is its budget of tokens or seconds, None for steps."""
        values = {**variant.values, "seed": seed}
        where = f"study, arm '{variant.arm}'"
        steps = self.study.budget.steps or _config(values, where).train.steps
        train = dict(values.get("train") or {})
        train["steps"] = steps if variant.rule == "steps" else CEILING * steps
        if variant.rule == "tokens" and limit is not None:
            train["max_tokens"] = int(limit)
        if variant.rule == "seconds" and limit is not None:
            train["max_seconds"] = limit
        return _config({**values, "train": train}, where)


def plan_study(study: StudySettings) -> Plan:
    """Plan all runs of a study; every configuration is checked here, before anything is run.

    A `UserError` names the arm or the model whose preset is unknown or whose settings a run refuses.
    """
    arms = arms_of(study)
    reference = reference_of(study)
    if reference not in arms:
        raise UserError(f"study: reference: unknown arm '{reference}'; arms: {', '.join(arms)}")
    if len({folder_name(model) for model in study.models}) < len(study.models):
        raise UserError("study: models: two of them have the same last part, which names their folder; rename one")
    _check_base(study)
    _check_budget(study, base_values(study))
    _check_published(study, arms)
    titles: dict[str, str] = {}
    for name, arm in arms.items():
        title = arm.title or name
        if title in titles:
            raise UserError(f"study: arms.{name}: '{title}' is also the title of arm '{titles[title]}'; change one")
        titles[title] = name
        if path := first_present(SHARED, arm.settings):
            raise UserError(
                f"study, arm '{name}': {path}: is the same for all arms; set it in the study's `{SHARED[path]}`"
            )
    variants: list[Variant] = []
    for model in study.models:
        under = _model_values(study, model)
        _config(under, f"study, model_settings.{model}" if model in study.model_settings else "study, base or settings")
        for name in sorted(arms, key=lambda name: name != reference):
            values = merge_settings(under, arms[name].settings)
            title = arms[name].title or name
            plan_of_none = Plan(study, reference, ())
            for rule, rules in _rules(study, name == reference):
                variant = Variant(name, title, model, rule, rules, values)
                if plan_of_none.config(variant, study.seeds[0], 1).evaluation.responder is not None:
                    raise UserError(f"study, arm '{name}': evaluation.responder: a server cannot answer for an arm")
                variants.append(variant)
    return Plan(study, reference, tuple(variants))


def _check_published(study: StudySettings, arms: Mapping[str, Arm]) -> None:
    """A number beside an arm or a measure that the study does not have would not be shown."""
    for number, row in enumerate(study.published):
        if row.arm not in (ORIGINAL, *arms):
            raise UserError(f"study: published.{number}.arm: unknown arm '{row.arm}'; arms: {', '.join(arms)}")
        known, suite = (*TITLES, *FORMS, *SEPARATIONS, *HEADLINES), find_suite(row.measure)
        if row.measure not in known and (suite is None or suite.kind is not Kind.UTILITY):
            listed = ", ".join(known)
            raise UserError(
                f"study: published.{number}.measure: unknown '{row.measure}'; known: {listed}, utility suites"
            )


def _rules(study: StudySettings, reference: bool) -> Iterator[tuple[Rule, tuple[Rule, ...]]]:
    """The rules that an arm is trained under, each with the rules that the same runs serve."""
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
    """The rules whose budget is what the reference used."""
    given = {"tokens": study.budget.tokens, "seconds": study.budget.seconds}
    return tuple(rule for rule in study.budget.equal if rule in given and given[rule] is None)


def reference_of(study: StudySettings) -> str:
    """The name of the arm that others are compared with; not checked to exist."""
    return study.reference if study.reference is not None else next(iter(arms_of(study)))


def arms_of(study: StudySettings) -> dict[str, Arm]:
    """The arms of the grid, then those with names of their own; a `UserError` if two have the same name."""
    arms: dict[str, Arm] = {}
    for name, arm in (*_grid(study), *study.arms.items()):
        if name in arms:
            twice = (
                f"arms.{name}: the grid has an arm of that name" if name in study.arms else f"grid: two arms are {name}"
            )
            raise UserError(f"study: {twice}; rename one")
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


def _check_base(study: StudySettings) -> None:
    """The demo's learning rate, batch and lengths would silently train and evaluate any other model wrongly."""
    if study.base != DEMO:
        return
    fitted = {*pocket.NAMES, *(name for name, settings in study.model_settings.items() if settings)}
    if other := next((name for name in study.models if name not in fitted), None):
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
    train = base.get("train")
    train = train if isinstance(train, Mapping) else {}  # what is no section is refused with the arms
    for key, rule in (("max_tokens", "tokens"), ("max_seconds", "seconds")):
        if train.get(key) is not None:
            raise UserError(f"study: train.{key}: set budget.{rule} of the study instead")


def modality_name(modality: Modality) -> str:
    """`text`, or `text+image` for a mixture."""
    return modality if isinstance(modality, str) else "+".join(modality)


def base_values(study: StudySettings) -> dict[str, Any]:
    """Settings that all models and arms start from: the base, with the study's settings over it."""
    if isinstance(study.base, dict):
        base = study.base
    else:
        # The seed of the training follows the run's, so neither is part of a base.
        base = preset(study.base).model_dump(mode="json", exclude={"seed": True, "train": {"seed"}})
    return merge_settings(base, study.settings)


def _model_values(study: StudySettings, model: str) -> dict[str, Any]:
    """Settings that the arms of one model start from."""
    return {**merge_settings(base_values(study), study.model_settings.get(model, {})), "model": model}


def _config(values: dict[str, Any], where: str) -> RunConfig:
    try:
        config = RunConfig.model_validate(values)
        try:
            torch.device(config.device)
        except RuntimeError:
            check_device(config.device)  # no such name; the device itself need not be on this machine (Ray)
        return config
    except ValidationError as error:
        raise UserError(f"{where}: {problems(error, RunConfig)}") from None
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


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

    `arms` and `seeds` are comma-separated. The reference is added to `arms` where its costs are a budget; `model`
    replaces all models, and `seeds` those of `--quick` too.
    """
    if base is not None:
        study = rebased(study, base)
    if quick:
        study = quickened(study)
    if arms.strip():
        study = part(study, list(dict.fromkeys(name.strip() for name in arms.split(",") if name.strip())))
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
        more["fitted"] = Fitted()  # the base is replaced by now, and it may name arms that are gone
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
            "published": _of_arms(study.published, needed),
        }
    )


def quickened(study: StudySettings) -> StudySettings:
    """The study as `--quick` runs it; a `UserError` if it has fewer steps than a budget is measured after."""
    quick, arms = study.quick, arms_of(study)
    names = arms if quick.only is None else quick.only
    if unknown := next((name for name in names if name not in arms), None):
        raise UserError(f"study: quick.only: unknown arm '{unknown}'; arms: {', '.join(arms)}")
    if study.reference in arms and study.reference not in names:
        raise UserError(f"study: quick.only: leaves out the reference, '{study.reference}'; add it")
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
            "published": _of_arms(study.published, names),
        }
    )


def _of_arms(published: Sequence[Published], names: Collection[str]) -> tuple[Published, ...]:
    return tuple(row for row in published if row.arm == ORIGINAL or row.arm in names)


def rebased(study: StudySettings, base: str) -> StudySettings:
    """The study on another base: a preset's name, or a file with settings of a run that trains with the same method.

    Parts that were fitted to the old base (`fitted`) are left out, or take the new base's weights. The model is the new
    base's, unless the study names its own and does not say that it was fitted.
    """
    named = base in preset_names() and not Path(base).exists()
    if not named and not Path(base).exists() and Path(base).suffix not in (".yaml", ".yml"):
        raise UserError(f"--base: unknown '{base}'; known are {', '.join(preset_names())}, or give a YAML file")
    config = preset(base) if named else read_config(Path(base))
    values = study.model_dump(mode="json", exclude={"models"} - study.model_fields_set)
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
    try:
        result = StudySettings.model_validate(values)
    except ValidationError as error:
        raise UserError(f"--base {base}: {problems(error, StudySettings)}") from None
    before, after = _method(study), _method(result)
    if before != after:
        raise UserError(
            f"--base {base}: it trains with {after}, the study's own base with {before}, and arms that name no method "
            "would not be what they are called; write a study file"
        )
    return result


def _method(study: StudySettings) -> str:
    return str(base_values(study).get("method", RunConfig.model_fields["method"].default))
