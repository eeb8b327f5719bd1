"""The settings of a run, in one YAML file.

Each room of the package owns the settings of its own work. A run's configuration is their sum, so this module stands
above the rooms.
"""

from pathlib import Path
from typing import Any, Literal

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from unsay.data.pictures import Mixture
from unsay.data.recipe import RecipeSettings
from unsay.data.source_choice import Choices, check_choices
from unsay.errors import UserError
from unsay.files import parse_yaml, problems, read_text, write_text
from unsay.generation.server import EndpointResponderSettings
from unsay.generation.settings import GenerationSettings, OwnAnswerSettings
from unsay.judges import judge_settings
from unsay.methods import METHODS, build_method
from unsay.models.precision import ModelSettings
from unsay.records import Modality, Role
from unsay.training.settings import TrainSettings


class DataConfig(BaseModel):
    """Where the training examples come from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    examples: Path | None = Field(
        None,
        description="your own training examples: a JSONL file, its path relative to this one, with id, role (forget, "
        "refuse, retain), prompt, answer and source in each row, and with image where it has a picture; null builds "
        "them from harmful requests of several sources, written prompts, Magpie and TruthfulQA",
    )
    forget: Choices = Field(
        (),
        description="sources of requests to forget (`unsay sources` lists them), as names or {source, rows, split, "
        "weight}; requests without a harmful answer are answered by the model itself; empty takes the built-in ones",
    )
    refuse: Choices = Field(
        (),
        description="sources of requests to refuse; empty takes those to forget, with the safe answers that they have",
    )
    retain: Choices = Field((), description="sources of normal requests; empty takes the built-in ones")
    modality: Mixture = Field(
        Modality.TEXT,
        description="how training requests reach the model: text, typographic (rendered as pixels), image (in words, "
        "beside a picture of shapes), or shares of these such as {text: 0.5, typographic: 0.5}; an example of your own "
        "that has a picture keeps it",
    )
    retain_modality: Mixture | None = Field(
        None, description="the same for retain examples, if it differs from forget and refuse; null means the same"
    )
    answer_tokens: int = Field(40, ge=1, description="longest of the model's own answers, in tokens")
    own_answers: OwnAnswerSettings = Field(
        OwnAnswerSettings(), description="how the harmful answers that the model will unlearn are drawn out of it"
    )
    forget_answers: Literal["given", "own"] = Field(
        "given",
        description="given takes a source's harmful answer where it has one and draws out the others; own draws out "
        "all, and takes the source's only where the model gives in to nothing",
    )
    retain_answers: Literal["given", "own"] | None = Field(
        None,
        description="given: the answers that come with the normal requests (of written ones SmolLM2-135M's); own: "
        "the model's; null: given for the pocket, own for any other model",
    )
    responder: EndpointResponderSettings | None = Field(
        None,
        description="a server of this same model (OpenAI-compatible, such as vLLM's) that gives its own answers: {url, "
        "model}; null asks the model loaded here",
    )
    recipe: RecipeSettings = Field(RecipeSettings(), description="the built-in examples: how much of what")

    @property
    def built_in(self) -> bool:
        """Whether all examples are those of the built-in recipe."""
        return self.examples is None and not (self.forget or self.refuse or self.retain)

    def choices(self, role: Role) -> Choices:
        """The sources of a role; empty for the built-in ones."""
        return {Role.FORGET: self.forget, Role.REFUSE: self.refuse, Role.RETAIN: self.retain}[role]

    @model_validator(mode="after")
    def _known_sources(self) -> "DataConfig":
        """Refuse an unknown source or split here, before the minutes that answering takes."""
        for role in Role:
            check_choices(role, self.choices(role))
        if self.examples is not None and (named := next((role for role in Role if self.choices(role)), None)):
            raise UserError(f"data.{named.value}: data.examples replaces all sources: leave one of the two out")
        return self


class EvaluationConfig(BaseModel):
    """The suites, how they are answered, and the judge."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    suites: tuple[str, ...] = Field(
        (),
        description="suite names (`unsay suites` lists them); all-available stands for every one that can be run here, "
        "development and reporting for the suites to choose a recipe on and those to quote; empty takes the standard "
        "ones",
    )
    limit: int | None = Field(64, ge=1, description="prompts per suite at most; null asks all")
    judge: str = Field(
        "probe",
        description="`probe` reads the answers with a language model; `rules` needs none and calls every answer to an "
        "attack harmful that is no refusal; `unsay judges` lists all",
    )
    judge_settings: dict[str, Any] = Field(default_factory=dict, description="of the judge; each has its own")
    responder: EndpointResponderSettings | None = Field(
        None,
        description="a server that answers in place of a model on this machine (OpenAI-compatible): {url, model}; null "
        "loads `model`",
    )
    generation: GenerationSettings = Field(GenerationSettings(), description="how answers are generated")

    @model_validator(mode="after")
    def _known_judge(self) -> "EvaluationConfig":
        """Refuse an unknown judge or setting here, before the minutes that answering takes."""
        checked = judge_settings(self.judge, self.judge_settings).model_dump(mode="json")
        # The settings are frozen only once they are complete.
        object.__setattr__(self, "judge_settings", checked)
        return self


class RunConfig(BaseModel):
    """The settings of one run: the content of `config.yaml` in a run directory.

    The method's and the judge's settings are checked too, and completed by their defaults.

    Raises:
        ValidationError: an unknown key or a bad value.
        UserError: an unknown method or judge, or a setting that it does not have.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(
        "pocket", min_length=1, description="`pocket`, a version of it (`pocket-1`), a local folder, or a model id"
    )
    model_settings: ModelSettings = Field(ModelSettings(), description="how the model is loaded")
    device: str = Field("cpu", description="torch device: cpu, cuda, cuda:1, mps")
    seed: int = Field(0, ge=0, lt=2**63, description="of data, training and statistics")
    method: str = Field("textual-unlearning", description="`unsay methods` lists them")
    method_settings: dict[str, Any] = Field(default_factory=dict, description="of the method; each has its own")
    data: DataConfig = Field(DataConfig(), description="the training examples")
    train: TrainSettings = Field(TrainSettings(), description="the training")
    evaluation: EvaluationConfig = Field(EvaluationConfig(), description="the suites before and after, and the judge")

    @model_validator(mode="after")
    def _one_seed(self) -> "RunConfig":
        """Training has the run's seed."""
        if self.train.seed != self.seed:
            if "seed" in self.train.model_fields_set:
                raise ValueError("train.seed differs from seed: leave train.seed out, it follows")
            # The settings are frozen only once they are complete.
            object.__setattr__(self, "train", self.train.model_copy(update={"seed": self.seed}))
        return self

    @model_validator(mode="after")
    def _whole_method(self) -> "RunConfig":
        """Refuse an unknown method here, before the minutes that evaluation takes."""
        build_method(self.method, self.method_settings)
        settings = METHODS[self.method].settings(**self.method_settings)
        object.__setattr__(self, "method_settings", settings.model_dump(mode="json"))
        return self


def read_config(path: Path) -> RunConfig:
    """Read a run's configuration; `data.examples` is relative to the file.

    Raises:
        UserError: missing file, malformed YAML, an unknown key or a bad value; names the file and the key.
    """
    config = parse_config(read_text(path), str(path))
    if config.data.examples is None:
        return config
    examples = (Path(path).parent / config.data.examples).resolve()
    return config.model_copy(update={"data": config.data.model_copy(update={"examples": examples})})


def read_run_config(run_dir: Path) -> RunConfig:
    """The settings of a run directory.

    Raises:
        UserError: no run there, or its settings are another version's.
    """
    if not (run_dir / "config.yaml").is_file():
        raise UserError(f"{run_dir}: no run there (config.yaml is missing)")
    return read_config(run_dir / "config.yaml")


def model_of(adapter: Path) -> str:
    """The model of the run that an adapter lies in; where it lies in none, `pocket`."""
    path = adapter.resolve().parent / "config.yaml"
    return read_config(path).model if path.is_file() else "pocket"


def parse_config(text: str, where: str) -> RunConfig:
    """Parse a run's configuration from YAML; error messages begin with `where`.

    Raises:
        UserError: malformed YAML, an unknown key or a bad value.
    """
    values = parse_yaml(text, where)
    values = {} if values is None else values
    if not isinstance(values, dict):
        raise UserError(f"{where}: expected settings as `key: value` lines, not a {type(values).__name__}")
    if unknown := next((key for key in values if not isinstance(key, str)), None):
        raise UserError(f"{where}: {unknown}: unknown key")
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{where}: {problems(error, RunConfig)}") from None
    except UserError as error:
        raise UserError(f"{where}: {error}") from None


def write_config(path: Path, config: RunConfig) -> None:
    """Write every setting, resolved, as YAML."""
    write_text(path, yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True))
