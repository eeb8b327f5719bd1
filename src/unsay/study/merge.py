"""Settings over settings."""

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel

from unsay.config import EvaluationConfig, RunConfig


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
