"""Every setting of a run, in one YAML file.

Each room of the package owns the settings of its own work; a run's configuration is their sum, which is why this module
stands above them.
"""

from pathlib import Path
from typing import Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from unsay.data.recipe import RecipeSettings
from unsay.errors import UserError
from unsay.files import first_problem, read_text, write_text
from unsay.responding.settings import GenerationSettings
from unsay.training.settings import TrainSettings


class DataConfig(BaseModel):
    """Where the training examples come from."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    examples: Path | None = Field(
        None,
        description="your own training examples, JSONL rows with id, role (forget, refuse, retain), prompt, answer, source; "
        "null builds them from AdvBench's train half, written prompts, Magpie and TruthfulQA",
    )
    recipe: RecipeSettings = RecipeSettings()
    answer_tokens: int = Field(40, ge=1, description="length of the model's own harmful answers that it will unlearn")


class EvaluationConfig(BaseModel):
    """What is asked, and who judges."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    suites: tuple[str, ...] = Field(
        (), description="suite names; empty takes the demo's suites that are available here"
    )
    limit: int | None = Field(64, ge=1, description="prompts per suite at most; null asks all")
    judge: str = "probe"
    generation: GenerationSettings = GenerationSettings()


class RunConfig(BaseModel):
    """One run: what `config.yaml` in a run directory holds, resolved."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field("pocket", description="`pocket`, a local checkpoint folder, or a model id")
    device: str = "cpu"
    seed: int = 0
    method: str = "textual-unlearning"
    method_settings: dict[str, Any] = Field(default_factory=dict)
    data: DataConfig = DataConfig()
    train: TrainSettings = TrainSettings()
    evaluation: EvaluationConfig = EvaluationConfig()


def read_config(path: Path) -> RunConfig:
    """Read a run's configuration.

    Raises:
        UserError: missing file, malformed YAML, an unknown key or a bad value; names the file and the key.
    """
    return parse_config(read_text(path), str(path))


def parse_config(text: str, where: str) -> RunConfig:
    """Parse a run's configuration.

    Args:
        text: YAML.
        where: named in error messages.

    Raises:
        UserError: malformed YAML, an unknown key or a bad value.
    """
    try:
        values = yaml.safe_load(text)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = f":{mark.line + 1}" if mark is not None else ""
        raise UserError(f"{where}{line}: not YAML: {getattr(error, 'problem', None) or 'malformed'}") from None
    if values is None:
        values = {}
    if not isinstance(values, dict):
        raise UserError(f"{where}: expected settings as `key: value` lines, found a {type(values).__name__}")
    try:
        return RunConfig.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{where}: {first_problem(error)}") from None


def write_config(path: Path, config: RunConfig) -> None:
    """Write every setting, resolved, as YAML."""
    write_text(path, yaml.safe_dump(config.model_dump(mode="json"), sort_keys=False, allow_unicode=True))
