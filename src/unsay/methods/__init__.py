"""Unlearning methods: one small file each, and one line here."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from unsay.errors import UserError
from unsay.files import first_problem
from unsay.methods.base import LossTerms, Method, MethodSettings, Needs, RoleBatch, RoleView
from unsay.methods.refusal_sft import RefusalSft, RefusalSftSettings
from unsay.methods.textual_unlearning import TextualUnlearning, TextualUnlearningSettings


@dataclass(frozen=True)
class MethodEntry:
    """A method's class and the class of its settings."""

    method: Any
    settings: type[MethodSettings]
    paper: str


METHODS: Mapping[str, MethodEntry] = {
    "textual-unlearning": MethodEntry(TextualUnlearning, TextualUnlearningSettings, "arXiv 2406.02575"),
    "refusal-sft": MethodEntry(RefusalSft, RefusalSftSettings, "arXiv 2406.02575, the text SFT baseline"),
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
    "LossTerms",
    "Method",
    "MethodEntry",
    "Needs",
    "RoleBatch",
    "RoleView",
    "build_method",
    "default_settings",
]
