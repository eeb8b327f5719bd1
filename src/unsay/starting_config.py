"""The commented configuration that `unsay init` writes; made from the settings themselves, so it is never out of date."""

import textwrap

import yaml
from pydantic import BaseModel

from unsay.config import RunConfig
from unsay.methods import METHODS, default_settings

WIDTH = 100
HEAD = """\
# Settings of an unsay run. Every line shows its default; delete what you do not change.
# Run it with:  unsay unlearn --config THIS_FILE --out runs/my-run
"""


def starting_config() -> str:
    """YAML of every setting with its default and a comment."""
    config = RunConfig()
    method = default_settings(config.method)
    body = _lines(config, 0)
    # The method's own settings are a mapping that depends on the method: written out for the default one.
    place = body.index("method_settings: {}")
    body[place : place + 1] = [
        f"# of the method {config.method}; other methods: {', '.join(name for name in METHODS if name != config.method)}",
        "method_settings:",
        *_lines(method, 1),
    ]
    return HEAD + "\n".join(body) + "\n"


def _lines(settings: BaseModel, depth: int) -> list[str]:
    indent = "  " * depth
    lines: list[str] = []
    for name, field in type(settings).model_fields.items():
        value = getattr(settings, name)
        if depth == 0 and lines and isinstance(value, BaseModel):
            lines.append("")
        if field.description:
            lines += [f"{indent}# {part}" for part in textwrap.wrap(field.description, WIDTH - len(indent) - 2)]
        if isinstance(value, BaseModel):
            lines += [f"{indent}{name}:", *_lines(value, depth + 1)]
        else:
            dumped = yaml.safe_dump(settings.model_dump(mode="json")[name], default_flow_style=True, width=1000)
            plain = dumped.removesuffix("\n").removesuffix("...").strip()
            lines.append(f"{indent}{name}: {plain}")
    return lines
