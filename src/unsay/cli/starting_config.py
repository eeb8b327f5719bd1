"""The commented configuration that `unsay init` writes: generated from the settings, so never out of date."""

import textwrap
from collections.abc import Sequence
from pathlib import Path
from shlex import quote

import yaml
from pydantic import BaseModel

from unsay.config import RunConfig
from unsay.methods import METHODS, default_settings

WIDTH = 96
HEAD = """\
# Settings of an unsay run. Every line shows {what}.
# Run it with:  {command}
"""
FOLLOWS = {"train.seed"}
"""Settings that take their value from another one, and are therefore not written out."""


def run_command(config: Path | str, launch: Path | str | None = None) -> str:
    """The command line of a run; `launch` is the `accelerate launch` configuration where several processes train."""
    unsay = "unsay" if launch is None else f"accelerate launch --config_file {quote(str(launch))} -m unsay"
    return f"{unsay} unlearn --config {quote(str(config))} --out runs/my-run"


def starting_config(
    config: RunConfig | None = None, launch: Path | str | None = None, reasons: Sequence[str] = ()
) -> str:
    """YAML of every setting with a comment; it parses back to the configuration.

    Its head has the `reasons` for these values, and the `accelerate launch` configuration unless a single process runs.
    """
    chosen = "the value that was chosen" if reasons else "the preset's value"
    what = "its default; delete what you do not change" if config is None else chosen
    why = "".join(f"# {line}\n" for reason in reasons for line in textwrap.wrap(reason, WIDTH - 2))
    head = HEAD.format(what=what, command=run_command("THIS_FILE", launch)) + why
    return "\n".join([head, *_lines(config or RunConfig(), ""), ""])


def _lines(settings: BaseModel, path: str) -> list[str]:
    """The lines of one section; `path` is its dotted name."""
    depth = path.count(".") + 1 if path else 0
    indent = "  " * depth
    lines: list[str] = []
    after_section = False
    plain = settings.model_dump(mode="json")
    for name, field in type(settings).model_fields.items():
        full = f"{path}.{name}" if path else name
        if full in FOLLOWS:
            continue
        value = getattr(settings, name)
        described = field.description
        if full == "method_settings":
            value = default_settings(plain["method"]).model_copy(update=plain[name])
            others = ", ".join(other for other in METHODS if other != plain["method"])
            described = f"of the method {plain['method']}; the other methods ({others}) have their own"
        section = isinstance(value, BaseModel)
        # Blank lines set sections apart, and at the top level every setting.
        if lines and (section or after_section or depth == 0):
            lines.append("")
        after_section = section
        if described:
            lines += [f"{indent}# {part}" for part in textwrap.wrap(described, WIDTH - len(indent) - 2)]
        if isinstance(value, BaseModel):
            lines += [f"{indent}{name}:", *_lines(value, full)]
        else:
            lines.append(f"{indent}{name}: {_scalar(plain[name])}")
    return lines


def _scalar(value: object) -> str:
    return yaml.safe_dump(value, default_flow_style=True, width=1000).removesuffix("\n").removesuffix("...").strip()
