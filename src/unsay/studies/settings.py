"""A study file: which arms are compared, and at which budget.

A study file: which arms are compared, at which budget.

Settings over settings.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, model_validator

from unsay.config import EvaluationConfig, RunConfig

Rule = Literal["steps", "tokens", "seconds"]
"""What arms have in common: optimiser steps, training tokens, or training seconds."""

ORIGINAL = "original"
"""The name of the untrained model among the arms."""

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
"""Settings that no arm has for itself, and the part of a study file that has them."""

ASKED_ALIKE = ("suites", "limit", "judge", "judge_settings", "responder")
"""Of `evaluation`, what no model has for itself: a page has one list of measures and one judge."""

SHARED_BY_MODELS = {path: place for path, place in SHARED.items() if path != "evaluation"}
SHARED_BY_MODELS |= {f"evaluation.{name}": "settings" for name in ASKED_ALIKE}

SEEDS = range(2**63)
"""What a run takes for its seed."""

Seed = Annotated[int, Field(ge=SEEDS.start, lt=SEEDS.stop)]

Name = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.+_-]*$", max_length=60)]
"""Of an arm: it is also the name of a folder."""

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
    """One arm: what it has different from the study's own settings."""

    title: str | None = Field(None, description="for people")
    settings: dict[str, Any] = Field(default_factory=dict, description="as in a run's configuration")


class Budget(Section):
    """What the arms have equal. Each rule is a comparison of its own, with runs of its own.

    A run that is looked at half-way is not a run of half the budget: its learning rate has not fallen yet. So an arm is
    trained once for every rule, and only the reference, which by definition uses its own tokens and seconds, is trained
    once for all.
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

    seeds: tuple[Seed, ...] | None = Field(None, min_length=1)
    steps: int | None = Field(None, ge=1, description="in place of budget.steps")
    tokens: int | None = Field(None, ge=1, description="in place of budget.tokens")
    seconds: float | None = Field(None, gt=0, description="in place of budget.seconds")
    at_steps: int | None = Field(None, ge=1, description="in place of budget.at_steps")
    settings: dict[str, Any] = Field(default_factory=dict, description="over the study's own settings")
    only: tuple[str, ...] | None = Field(None, min_length=1, description="arms that are left; null keeps all")


class Fitted(Section):
    """What of a study was fitted to the model of its base, and gives way when `--base` replaces that."""

    left_out: tuple[str, ...] = Field(
        (), description="parts of this file, such as settings.train: what the new base or a method itself has is taken"
    )
    shared: tuple[Name, ...] = Field(
        (), description="arms whose weights are the base's: they take those that the new base has under the same name"
    )


class StudySettings(Section):
    """What a study file holds."""

    title: str = Field("Study", description="the question, for people")
    about: str = Field("", description="a sentence or two for the report")
    base: str | dict[str, Any] = Field(DEMO, description="a preset's name, or settings of a run")
    settings: dict[str, Any] = Field(default_factory=dict, description="over the base, for every arm")
    models: tuple[str, ...] = Field((POCKET,), min_length=1)
    model_settings: dict[str, dict[str, Any]] = Field(
        default_factory=dict, description="of each model: over the base and `settings`, under those of an arm"
    )
    seeds: tuple[Seed, ...] = Field((0,), min_length=1)
    grid: Grid | None = None
    arms: dict[Name, Arm] = Field(default_factory=dict)
    reference: str | None = Field(
        None,
        description="the arm that the others are compared with, and whose tokens and seconds count; null: the first",
    )
    budget: Budget = Budget()
    quick: Quick = Quick()
    fitted: Fitted = Fitted()

    @model_validator(mode="after")
    def _has_arms(self) -> Self:
        if self.grid is None and not self.arms:
            raise ValueError("a study needs arms: give `grid`, `arms`, or both")
        if ORIGINAL in self.arms:
            raise ValueError(f"arms.{ORIGINAL}: is the name of the untrained model; choose another")
        lists = {
            "seeds": self.seeds,
            "models": self.models,
            "budget.equal": self.budget.equal,
            "quick.seeds": self.quick.seeds or (),
        }
        for name, values in lists.items():
            if len(set(values)) < len(values):
                raise ValueError(f"{name}: one of them stands twice")
        return self

    @model_validator(mode="after")
    def _has_models(self) -> Self:
        for model, settings in self.model_settings.items():
            if model not in self.models:
                raise ValueError(f"model_settings.{model}: there is no such model; models: {', '.join(self.models)}")
            if path := first_of(SHARED_BY_MODELS, settings):
                place = SHARED_BY_MODELS[path]
                raise ValueError(
                    f"model_settings.{model}: {path}: is the same for all models; set it in the study's `{place}`"
                )
        return self

    @model_validator(mode="after")
    def _has_what_was_fitted(self) -> Self:
        values = self.model_dump(mode="json") if self.fitted.left_out else {}
        if strange := next((path for path in self.fitted.left_out if place_of(values, path) is None), None):
            raise ValueError(f"fitted.left_out: {strange}: does not stand in this study")
        if unknown := next((name for name in self.fitted.shared if name not in self.arms), None):
            raise ValueError(f"fitted.shared: there is no arm '{unknown}'")
        return self


def first_of(paths: Mapping[str, str], settings: Mapping[str, Any]) -> str | None:
    """The first of some paths such as `train.steps` that stands in settings; None if none does."""
    for path in paths:
        section, _, key = path.partition(".")
        values = settings if not key else settings.get(section)
        if isinstance(values, Mapping) and (key or section) in values:
            return path
    return None


def place_of(values: dict[str, Any], path: str) -> tuple[dict[str, Any], str] | None:
    """Where a path such as `arms.npo-0.1.settings` ends: the mapping, and the key in it; None if it leads nowhere."""
    for key, inner in values.items():
        if path == key:
            return values, key
        if path.startswith(f"{key}.") and isinstance(inner, dict) and (found := place_of(inner, path[len(key) + 1 :])):
            return found
    return None


class Folders:
    """Where a study's files are.

    Attributes:
        root: the study's directory.
    """

    def __init__(self, root: Path) -> None:
        self.root = Path(root)

    def original(self, model: str) -> Path:
        """Run directory in which a model without training is evaluated."""
        return self.root / "originals" / folder_name(model)

    def run(self, model: str, variant: str, seed: int) -> Path:
        """Run directory of one arm under one rule with one seed."""
        return self.root / "arms" / folder_name(model) / variant / f"seed-{seed}"


def folder_name(model: str) -> str:
    """A model's name as that of a folder: of a path or an id, its last part."""
    last = model.rstrip("/").rsplit("/", 1)[-1]
    return "".join(char if char.isalnum() or char in "-_." else "-" for char in last).lstrip(".") or "model"


def merged(under: Mapping[str, Any], over: Mapping[str, Any], section: type[BaseModel] = RunConfig) -> dict[str, Any]:
    """`over` laid on `under`, section by section.

    A section of the configuration is merged key by key. Any other value is replaced whole, a mapping too: half of one
    mixture and half of another would be neither. A method's settings are merged as long as the method is the same;
    another method starts from its own defaults, and so does another judge.
    """
    result = dict(under)
    for name, value in over.items():
        field = section.model_fields.get(name)
        inner = field.annotation if field is not None else None
        below = under.get(name)
        if isinstance(inner, type) and issubclass(inner, BaseModel) and isinstance(value, Mapping):
            result[name] = merged(below if isinstance(below, Mapping) else {}, value, inner)
        else:
            result[name] = value
    if section is RunConfig:
        result |= _method_settings(under, over)
    if section is EvaluationConfig and "judge_settings" not in over and _another_judge(under, over):
        result.pop("judge_settings", None)
    return result


def _another_judge(under: Mapping[str, Any], over: Mapping[str, Any]) -> bool:
    before = under.get("judge", EvaluationConfig.model_fields["judge"].default)
    return bool(over.get("judge", before) != before)


def _method_settings(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    mine, theirs = over.get("method_settings", {}), under.get("method_settings", {})
    if not isinstance(mine, Mapping) or not isinstance(theirs, Mapping) or not (mine or theirs):
        return {}  # whoever reads the configuration says what is wrong with it
    default = RunConfig.model_fields["method"].default
    before = under.get("method", default)
    after = over.get("method", before)
    if after == before:
        return {"method_settings": {**theirs, **mine}}
    return {"method_settings": dict(mine)}
