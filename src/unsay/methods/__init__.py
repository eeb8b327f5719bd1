"""Unlearning methods: a file per method or family, and one line each here."""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from unsay.errors import UserError
from unsay.files import file_key, problems
from unsay.methods.ascent import (
    GradDiff,
    GradDiffSettings,
    GradientAscent,
    GradientAscentSettings,
    KlMin,
    KlMinSettings,
)
from unsay.methods.base import (
    Companion,
    LossTerms,
    Method,
    MethodSettings,
    Needs,
    Part,
    RoleBatch,
    RoleView,
    WeightEdit,
)
from unsay.methods.circuit_breaker import CircuitBreaker, CircuitBreakerSettings
from unsay.methods.dpo import Dpo, DpoSettings
from unsay.methods.npo import Npo, NpoSettings
from unsay.methods.prompt_decouple import PromptDecouple, PromptDecoupleSettings
from unsay.methods.refusal_sft import Idk, IdkSettings, RefusalSft, RefusalSftSettings
from unsay.methods.rep_select import RepSelect, RepSelectSettings
from unsay.methods.rmu import Rmu, RmuSettings
from unsay.methods.safe_unlearning import SafeUnlearning, SafeUnlearningSettings
from unsay.methods.simnpo import SimNpo, SimNpoSettings
from unsay.methods.task_vector import TaskVector, TaskVectorSettings
from unsay.methods.textual_unlearning import TextualUnlearning, TextualUnlearningSettings


@dataclass(frozen=True)
class MethodEntry:
    """A method as it is listed.

    Attributes:
        method: its class.
        settings: the class of its settings.
        paper: where it is from.
        version: raised by hand when the loss changes, so that what the old one trained is trained anew; None goes by
            the content of the file that the class is written in.
    """

    method: Any
    settings: type[MethodSettings]
    paper: str
    version: int | None = None

    @property
    def summary(self) -> str:
        """What the method does, in one line: the first of its class's docstring."""
        return str(self.method.__doc__).splitlines()[0]


METHODS: dict[str, MethodEntry] = {
    "textual-unlearning": MethodEntry(TextualUnlearning, TextualUnlearningSettings, "arXiv 2406.02575", version=1),
    "refusal-sft": MethodEntry(RefusalSft, RefusalSftSettings, "arXiv 2406.02575, the text SFT baseline", version=1),
    "gradient-ascent": MethodEntry(GradientAscent, GradientAscentSettings, "arXiv 2210.01504", version=1),
    "grad-diff": MethodEntry(GradDiff, GradDiffSettings, "arXiv 2203.12817", version=1),
    "kl-min": MethodEntry(KlMin, KlMinSettings, "arXiv 2401.06121", version=1),
    "npo": MethodEntry(Npo, NpoSettings, "arXiv 2404.05868", version=1),
    "simnpo": MethodEntry(SimNpo, SimNpoSettings, "arXiv 2410.07163", version=1),
    "dpo": MethodEntry(Dpo, DpoSettings, "arXiv 2305.18290", version=1),
    "idk": MethodEntry(Idk, IdkSettings, "arXiv 2401.06121", version=1),
    "safe-unlearning": MethodEntry(SafeUnlearning, SafeUnlearningSettings, "arXiv 2407.02855", version=1),
    "prompt-decouple": MethodEntry(PromptDecouple, PromptDecoupleSettings, "arXiv 2502.12520", version=1),
    "rmu": MethodEntry(Rmu, RmuSettings, "arXiv 2403.03218", version=1),
    "circuit-breaker": MethodEntry(CircuitBreaker, CircuitBreakerSettings, "arXiv 2406.04313", version=1),
    "task-vector": MethodEntry(TaskVector, TaskVectorSettings, "arXiv 2212.04089", version=1),
    "rep-select": MethodEntry(RepSelect, RepSelectSettings, "arXiv 2606.17168", version=1),
}


def build_method(name: str, settings: Mapping[str, Any] | None = None) -> Method:
    """A method by its name, with its settings checked."""
    if name not in METHODS:
        raise UserError(f"method: unknown '{name}'; known are {', '.join(METHODS)}")
    entry = METHODS[name]
    try:
        method: Method = entry.method(entry.settings(**(settings or {})))
    except ValidationError as error:
        raise UserError(f"method {name}: {problems(error, entry.settings)}") from None
    return method


def method_version(method: Method) -> str:
    """The version of a method's entry, or the content key of the file that its class is written in.

    It belongs into the key of whatever a method makes, beside the method's name and settings.

    Raises:
        UserError: the entry has no version, and the class is written in no file or the file cannot be read.
    """
    versions = [entry.version for entry in METHODS.values() if entry.method is type(method)]
    return str(versions[0]) if versions and versions[0] is not None else _source_key(type(method))


@cache  # the code that a process has loaded stays what it was when its file is edited
def _source_key(method: type) -> str:
    try:
        source = inspect.getsourcefile(method)
    except (OSError, TypeError):  # typed into an interpreter or a notebook
        source = None
    if source is None:
        raise UserError(
            f"method class {method.__name__}: it is written in no file, so unsay could not notice an edit: "
            "put it into a module and import it"
        )
    return file_key(Path(source))


def default_settings(name: str) -> MethodSettings:
    """A method's settings with every default."""
    return METHODS[name].settings()


__all__ = [
    "METHODS",
    "Companion",
    "LossTerms",
    "Method",
    "MethodEntry",
    "Needs",
    "Part",
    "RoleBatch",
    "RoleView",
    "WeightEdit",
    "build_method",
    "default_settings",
    "method_version",
]
