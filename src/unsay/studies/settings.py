"""A study file: which arms are compared, and at which budget.

A study's settings lie over those of a run: the base, the study's own, those of a model, and those of an arm.
"""

import re
from collections.abc import Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, ValidationError, model_validator

from unsay.config import EvaluationConfig, RunConfig
from unsay.errors import UserError
from unsay.files import parse_yaml, problems, read_text
from unsay.presets import preset
from unsay.scoring.withstanding import HEADLINES

Rule = Literal["steps", "tokens", "seconds"]
"""What arms have in common: optimiser steps, training tokens, or training seconds."""

ORIGINAL = "original"
"""The name of the original model among the arms."""

POCKET, DEMO = "pocket", "demo"
"""The model that comes with the package, and the preset that was fitted to it."""

SHARED = {
    "model": "models",
    "seed": "seeds",
    "evaluation": "settings",
    "train.steps": "budget",
    "train.max_tokens": "budget",
    "train.max_seconds": "budget",
}
"""Settings that are equal for all arms → the part of a study file that has them."""

SHARED_EVALUATION = ("suites", "limit", "judge", "judge_settings", "responder")
"""Settings of `evaluation` that are equal for all models: a page has one list of measures and one judge."""

SHARED_BY_MODELS = {path: place for path, place in SHARED.items() if path != "evaluation"}
SHARED_BY_MODELS |= {f"evaluation.{name}": "settings" for name in SHARED_EVALUATION}

SEEDS = range(2**63)
"""Seeds that a run accepts."""

Seed = Annotated[int, Field(ge=SEEDS.start, lt=SEEDS.stop)]

NAME, LONGEST_NAME = r"^[a-z0-9][a-z0-9.+_-]*$", 60
Name = Annotated[str, StringConstraints(pattern=NAME, max_length=LONGEST_NAME)]
"""An arm's name, which also names its folder."""

Modality = str | dict[str, float]
"""`data.modality` of a run: a name, or shares of several."""


class Section(BaseModel):
    """A group of settings; unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Grid(Section):
    """Every method with every modality."""

    methods: tuple[str, ...] = Field(min_length=1, description="`unsay methods` lists them")
    modalities: tuple[Modality, ...] = Field(("text",), min_length=1, description="of the training data")


class Arm(Section):
    """One arm: how it differs from the study's own settings."""

    title: str | None = Field(None, description="for people")
    settings: dict[str, Any] = Field(default_factory=dict, description="as in a run's configuration")


class Budget(Section):
    """What is equal for all arms. Each rule is a comparison of its own, with runs of its own.

    A run that is evaluated half-way is not a run of half the budget, because its learning rate has not fallen yet. So
    an arm is trained once for every rule; only the reference, which uses its own tokens and seconds by definition, is
    trained once for all.
    """

    equal: tuple[Rule, ...] = Field(("steps",), min_length=1, description="steps, tokens, seconds: any of them")
    steps: int | None = Field(None, ge=1, description="null takes train.steps of the configuration")
    tokens: int | None = Field(None, ge=1, description="null takes what the reference arm used with the same seed")
    seconds: float | None = Field(None, gt=0, description="null takes what the reference arm used with the same seed")
    at_steps: int | None = Field(
        None, ge=1, description="take what the reference arm had used after so many steps; null takes all it used"
    )


class Quick(Section):
    """What `--quick` makes smaller."""

    seeds: tuple[Seed, ...] | None = Field(None, min_length=1, description="in place of seeds")
    steps: int | None = Field(None, ge=1, description="in place of budget.steps")
    tokens: int | None = Field(None, ge=1, description="in place of budget.tokens")
    seconds: float | None = Field(None, gt=0, description="in place of budget.seconds")
    at_steps: int | None = Field(None, ge=1, description="in place of budget.at_steps")
    settings: dict[str, Any] = Field(default_factory=dict, description="over the study's own settings")
    only: tuple[str, ...] | None = Field(None, min_length=1, description="arms that are left; null keeps all")


class Fitted(Section):
    """Parts of a study that were fitted to the model of its base, and give way when `--base` replaces it."""

    left_out: tuple[str, ...] = Field(
        (), description="parts of this file, such as settings.train: the new base's or the method's own replace them"
    )
    shared: tuple[Name, ...] = Field(
        (), description="arms that have the base's weights: they take the new base's weights of the same names"
    )


class Published(Section):
    """A published number that an arm's is shown beside."""

    arm: Name = Field(description="the arm that was measured, or `original`")
    measure: str = Field(
        description="attack_success, text_attacks, image_attacks, over_refusal, coherent_safety or a utility suite"
    )
    value: str = Field(min_length=1, description="as it was published, with its unit")
    about: str = Field(min_length=1, description="what was measured: model, data, judge")
    source: str = Field(min_length=1, description="paper, and the place in it")


def _model_of(base: str | dict[str, Any]) -> str:
    return str(base.get("model") or RunConfig().model) if isinstance(base, dict) else preset(base).model


class StudySettings(Section):
    """The content of a study file."""

    title: str = Field("Study", description="the question, for people")
    about: str = Field("", description="a sentence or two for the report")
    base: str | dict[str, Any] = Field(DEMO, description="a preset's name, or settings of a run")
    settings: dict[str, Any] = Field(default_factory=dict, description="over the base, for every arm")
    models: tuple[str, ...] = Field(
        default_factory=lambda values: (_model_of(values["base"]),),
        min_length=1,
        description="every arm is run on each of them; without it, on the base's model",
    )
    model_settings: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="of each model: over the base and `settings`, under those of an arm"
    )
    seeds: tuple[Seed, ...] = Field((0,), min_length=1, description="every arm is run with each of them")
    grid: Grid | None = Field(None, description="arms as every combination of methods and modalities")
    arms: dict[Name, Arm] = Field(default_factory=dict, description="arms by name, each with its settings")
    reference: str | None = Field(
        None,
        description="the arm that others are compared with, whose tokens and seconds are their budget; null: the first",
    )
    robustness: tuple[str, ...] = Field(
        (),
        description="checks that every arm goes through once it is trained, in short: relearn, prefill, quantise, "
        "samples; `unsay robustness` has them",
    )
    budget: Budget = Field(Budget(), description="what arms have in common")
    quick: Quick = Field(Quick(), description="what `--quick` changes")
    fitted: Fitted = Field(Fitted(), description="settings that stand in for those that no paper gives")
    published: tuple[Published, ...] = Field((), description="published numbers, shown beside the measured ones")

    @model_validator(mode="after")
    def _has_arms(self) -> Self:
        if self.grid is None and not self.arms:
            raise ValueError("a study needs arms: give `grid`, `arms`, or both")
        if ORIGINAL in self.arms:
            raise ValueError(f"arms.{ORIGINAL}: is the name of the original model; choose another")
        lists = {
            "seeds": self.seeds,
            "models": self.models,
            "budget.equal": self.budget.equal,
            "quick.seeds": self.quick.seeds or (),
            "robustness": self.robustness,
        }
        for name, values in lists.items():
            if len(set(values)) < len(values):
                raise ValueError(f"{name}: has the same value twice")
        return self

    @model_validator(mode="after")
    def _has_checks(self) -> Self:
        known = [headline.check for headline in HEADLINES.values()]
        if unknown := next((name for name in self.robustness if name not in known), None):
            raise ValueError(f"robustness: '{unknown}' gives no number to compare; checks: {', '.join(known)}")
        return self

    @model_validator(mode="after")
    def _has_models(self) -> Self:
        for model, settings in self.model_settings.items():
            if model not in self.models:
                raise ValueError(f"model_settings.{model}: unknown model; models: {', '.join(self.models)}")
            if path := first_present(SHARED_BY_MODELS, settings):
                place = SHARED_BY_MODELS[path]
                raise ValueError(
                    f"model_settings.{model}: {path}: is the same for all models; set it in the study's `{place}`"
                )
        return self

    @model_validator(mode="after")
    def _has_the_fitted_parts(self) -> Self:
        values = self.model_dump(mode="json") if self.fitted.left_out else {}
        if missing := next((path for path in self.fitted.left_out if find_path(values, path) is None), None):
            raise ValueError(f"fitted.left_out: {missing}: is not set in this study")
        if unknown := next((name for name in self.fitted.shared if name not in self.arms), None):
            raise ValueError(f"fitted.shared: unknown arm '{unknown}'")
        return self


def first_present(paths: Mapping[str, str], settings: Mapping[str, Any]) -> str | None:
    """The first of some paths such as `train.steps` that is set in `settings`; None if none is."""
    for path in paths:
        section, _, key = path.partition(".")
        values = settings if not key else settings.get(section)
        if isinstance(values, Mapping) and (key or section) in values:
            return path
    return None


def find_path(values: dict[str, Any], path: str) -> tuple[dict[str, Any], str] | None:
    """The mapping and the key that a path such as `arms.npo-0.1.settings` leads to; None if it leads nowhere."""
    for key, inner in values.items():
        if path == key:
            return values, key
        if path.startswith(f"{key}.") and isinstance(inner, dict) and (end := find_path(inner, path[len(key) + 1 :])):
            return end
    return None


class StudyDirectory:
    """Where the run directories of a study are."""

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    def original(self, model: str) -> Path:
        """The run directory in which an original model is evaluated."""
        return self.root / "originals" / folder_name(model)

    def run(self, model: str, variant: str, seed: int) -> Path:
        """The run directory of one arm under one rule with one seed."""
        return self.root / "arms" / folder_name(model) / variant / f"seed-{seed}"


def folder_name(model: str) -> str:
    """The folder name of a model: the last part of its path or id."""
    last = model.rstrip("/").rsplit("/", 1)[-1]
    return "".join(char if char.isalnum() or char in "-_." else "-" for char in last).lstrip(".") or "model"


def packaged() -> dict[str, Traversable]:
    """The studies that come with the package, by name."""
    folder = files("unsay.presets") / "studies"
    entries = sorted(
        (entry for entry in folder.iterdir() if entry.name.endswith(".yaml")), key=lambda entry: entry.name
    )
    return {entry.name.removesuffix(".yaml"): entry for entry in entries}


def read_study(name_or_path: str) -> StudySettings:
    """Read a packaged study by its name, or any study by its file; `data.examples` is relative to that file.

    A `UserError` names the file and the key.
    """
    names = packaged()
    if name_or_path in names:
        return parse_study(names[name_or_path].read_text(encoding="utf-8"), f"study {name_or_path}")
    path = Path(name_or_path)
    if not path.exists() and path.suffix not in (".yaml", ".yml"):
        raise UserError(f"study: unknown '{name_or_path}'; known are {', '.join(names)}, or give a YAML file")
    return _anchored(parse_study(read_text(path), str(path)), path.parent)


def parse_study(text: str, where: str) -> StudySettings:
    """Parse a study from YAML; error messages begin with `where`."""
    values = parse_yaml(text, where)
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise UserError(f"{where}: expected a study as `key: value` lines")
    for name in values["arms"] if isinstance(values.get("arms"), dict) else ():
        if not isinstance(name, str):
            raise UserError(f"{where}: arms: YAML reads a name as {str(name).lower()} and not as a word: quote it")
        if re.fullmatch(NAME, name) is None or len(name) > LONGEST_NAME:
            raise UserError(
                f"{where}: arms: a name has lower-case letters, digits and . + _ - only, {LONGEST_NAME} at most"
            )
    try:
        return StudySettings.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{where}: {problems(error, StudySettings)}") from None


def _anchored(study: StudySettings, folder: Path) -> StudySettings:
    """The study with every `data.examples` resolved against a folder."""

    def anchor(settings: dict[str, Any]) -> dict[str, Any]:
        data = settings.get("data")
        if not isinstance(data, dict) or not isinstance(data.get("examples"), str):
            return settings
        return {**settings, "data": {**data, "examples": str((folder / data["examples"]).resolve())}}

    return study.model_copy(
        update={
            "base": anchor(study.base) if isinstance(study.base, dict) else study.base,
            "settings": anchor(study.settings),
            "model_settings": {name: anchor(settings) for name, settings in study.model_settings.items()},
            "arms": {
                name: arm.model_copy(update={"settings": anchor(arm.settings)}) for name, arm in study.arms.items()
            },
            "quick": study.quick.model_copy(update={"settings": anchor(study.quick.settings)}),
        }
    )


def merge_settings(
    under: Mapping[str, Any], over: Mapping[str, Any], section: type[BaseModel] = RunConfig
) -> dict[str, Any]:
    """`over` merged into `under`, section by section.

    A section of the configuration is merged key by key. Any other value is replaced whole, mappings included: half of
    one mixture and half of another would be neither. A method's settings are merged if the method stays the same;
    another method starts from its own defaults, and so does another judge.
    """
    result = dict(under)
    for name, value in over.items():
        field = section.model_fields.get(name)
        inner = field.annotation if field is not None else None
        below = under.get(name)
        if isinstance(inner, type) and issubclass(inner, BaseModel) and isinstance(value, Mapping):
            result[name] = merge_settings(below if isinstance(below, Mapping) else {}, value, inner)
        else:
            result[name] = value
    if section is RunConfig:
        result |= _method_settings(under, over)
    if section is EvaluationConfig and "judge_settings" not in over and _changes("judge", under, over, section):
        result.pop("judge_settings", None)
    return result


def _changes(name: str, under: Mapping[str, Any], over: Mapping[str, Any], section: type[BaseModel]) -> bool:
    before = under.get(name, section.model_fields[name].default)
    return bool(over.get(name, before) != before)


def _method_settings(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    own, below = over.get("method_settings", {}), under.get("method_settings", {})
    if not isinstance(own, Mapping) or not isinstance(below, Mapping) or not (own or below):
        return {}  # malformed settings are reported by RunConfig
    return {"method_settings": dict(own) if _changes("method", under, over, RunConfig) else {**below, **own}}
