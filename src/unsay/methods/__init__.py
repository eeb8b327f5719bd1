"""Unlearning methods: one small file each, and one line here."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from unsay.errors import UserError
from unsay.files import first_problem
from unsay.methods.base import Companion, LossTerms, Method, MethodSettings, Needs, Part, RoleBatch, RoleView
from unsay.methods.circuit_breaker import CircuitBreaker, CircuitBreakerSettings
from unsay.methods.dpo import Dpo, DpoSettings
from unsay.methods.grad_diff import GradDiff, GradDiffSettings
from unsay.methods.gradient_ascent import GradientAscent, GradientAscentSettings
from unsay.methods.idk import Idk, IdkSettings
from unsay.methods.kl_min import KlMin, KlMinSettings
from unsay.methods.npo import Npo, NpoSettings
from unsay.methods.prompt_decouple import PromptDecouple, PromptDecoupleSettings
from unsay.methods.refusal_sft import RefusalSft, RefusalSftSettings
from unsay.methods.rmu import Rmu, RmuSettings
from unsay.methods.safe_unlearning import SafeUnlearning, SafeUnlearningSettings
from unsay.methods.simnpo import SimNpo, SimNpoSettings
from unsay.methods.task_vector import TaskVector, TaskVectorSettings
from unsay.methods.textual_unlearning import TextualUnlearning, TextualUnlearningSettings


@dataclass(frozen=True)
class MethodEntry:
    """A method's class and the class of its settings."""

    method: Any
    settings: type[MethodSettings]
    paper: str

    @property
    def summary(self) -> str:
        """What the method does, in one line: the first of its class's docstring."""
        return str(self.method.__doc__).splitlines()[0]


METHODS: dict[str, MethodEntry] = {
    "textual-unlearning": MethodEntry(TextualUnlearning, TextualUnlearningSettings, "arXiv 2406.02575"),
    "refusal-sft": MethodEntry(RefusalSft, RefusalSftSettings, "arXiv 2406.02575, the text SFT baseline"),
    "gradient-ascent": MethodEntry(GradientAscent, GradientAscentSettings, "arXiv 2210.01504"),
    "grad-diff": MethodEntry(GradDiff, GradDiffSettings, "arXiv 2203.12817"),
    "kl-min": MethodEntry(KlMin, KlMinSettings, "arXiv 2401.06121"),
    "npo": MethodEntry(Npo, NpoSettings, "arXiv 2404.05868"),
    "simnpo": MethodEntry(SimNpo, SimNpoSettings, "arXiv 2410.07163"),
    "dpo": MethodEntry(Dpo, DpoSettings, "arXiv 2305.18290"),
    "idk": MethodEntry(Idk, IdkSettings, "arXiv 2401.06121"),
    "safe-unlearning": MethodEntry(SafeUnlearning, SafeUnlearningSettings, "arXiv 2407.02855"),
    "prompt-decouple": MethodEntry(PromptDecouple, PromptDecoupleSettings, "arXiv 2502.12520"),
    "rmu": MethodEntry(Rmu, RmuSettings, "arXiv 2403.03218"),
    "circuit-breaker": MethodEntry(CircuitBreaker, CircuitBreakerSettings, "arXiv 2406.04313"),
    "task-vector": MethodEntry(TaskVector, TaskVectorSettings, "arXiv 2212.04089"),
}


def build_method(name: str, settings: Mapping[str, Any] | None = None) -> Method:
    """A method by its name, with its settings checked.

    Raises:
        UserError: unknown name, unknown setting, or a value out of range.
    """
    if name not in METHODS:
        raise UserError(f"method: unknown '{name}'; known are {', '.join(METHODS)}")
    entry = METHODS[name]
    try:
        method: Method = entry.method(entry.settings(**(settings or {})))
    except ValidationError as error:
        raise UserError(f"method {name}: {first_problem(error)}") from None
    return method


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
    "build_method",
    "default_settings",
]
