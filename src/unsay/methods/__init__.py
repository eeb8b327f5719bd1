"""Unlearning methods: one file each, and one line here.

Unlearning methods: one small file each, and one line here.

Whose code a method is: a release's, which its version pins, or the user's own, which changes under the same name.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from unsay.errors import UserError
from unsay.files import file_key, first_problem
from unsay.methods.ascent import (
    GradDiff,
    GradDiffSettings,
    GradientAscent,
    GradientAscentSettings,
    KlMin,
    KlMinSettings,
)
from unsay.methods.base import Companion, LossTerms, Method, MethodSettings, Needs, Part, RoleBatch, RoleView
from unsay.methods.circuit_breaker import CircuitBreaker, CircuitBreakerSettings
from unsay.methods.dpo import Dpo, DpoSettings
from unsay.methods.idk import Idk, IdkSettings
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


# Keys of stages, checkpoints and study runs that were made with these hold no code, and must go on holding none, or all
# of them would be made again. A release pins the code: version and commit stand in every run's environment.json. The
# names are written out because a method that somebody adds to this folder is edited like any other of their own.
PINNED = frozenset(
    f"unsay.methods.{name}"
    for name in (
        "circuit_breaker",
        "dpo",
        "grad_diff",
        "gradient_ascent",
        "idk",
        "kl_min",
        "npo",
        "prompt_decouple",
        "refusal_sft",
        "rmu",
        "safe_unlearning",
        "simnpo",
        "task_vector",
        "textual_unlearning",
    )
)
"""Modules of the methods that were released."""


@cache  # by class: the code that a process has loaded stays what it was when the file is edited
def code_key(method: type) -> tuple[str, ...]:
    """What belongs into the key of whatever a method makes, beside its name and settings.

    Args:
        method: its class.

    Returns:
        The content key of the file in which the class is written; nothing for a method of a release.

    Raises:
        UserError: there is no such file, or it cannot be read.
    """
    if method.__module__ in PINNED:
        return ()
    try:
        source = inspect.getsourcefile(method)
    except (OSError, TypeError):  # typed into an interpreter or a notebook
        source = None
    if source is None:
        raise UserError(
            f"method class {method.__name__}: it is written in no file, so an edit could not be told from what was "
            "trained before: put it into a module and import it"
        )
    return (file_key(Path(source)),)
