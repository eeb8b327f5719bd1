"""Ready configurations: whole YAML files, and those of `models.yaml`, which are put together from few parts."""

from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from unsay.config import RunConfig, parse_config
from unsay.errors import UserError

FILE = "models.yaml"
EIGHT = "-8gpu"

LAUNCHES = ("ddp", "fsdp2", "zero3")
"""Ways to train with several processes: each a configuration of `accelerate launch` under `accelerate/`."""


def launch_config(name: str) -> str:
    """The text of a packaged configuration of `accelerate launch`.

    Raises:
        UserError: there is none of that name.
    """
    if name not in LAUNCHES:
        raise UserError(f"--launch: unknown '{name}'; known are {', '.join(LAUNCHES)}")
    return (files(__name__) / "accelerate" / f"{name}.yaml").read_text(encoding="utf-8")


def launch_of(name: str) -> str | None:
    """How the run of a preset is launched; None where one process is enough."""
    return "ddp" if name.endswith(EIGHT) else None


def preset(name: str) -> RunConfig:
    """A packaged configuration by its name.

    Raises:
        UserError: there is none of that name.
    """
    if name in model_presets():
        return parse_config(yaml.safe_dump(_composed(name)), f"preset {name}")
    path = files(__name__) / f"{name}.yaml"
    if path.name == FILE or not path.is_file():
        raise UserError(f"preset: unknown '{name}'; known are {', '.join(preset_names())}")
    return parse_config(path.read_text(encoding="utf-8"), f"preset {name}")


def preset_names() -> list[str]:
    """Every preset's name."""
    whole = sorted(entry.name for entry in files(__name__).iterdir() if ".yaml" in entry.name and entry.name != FILE)
    return [*(name.removesuffix(".yaml") for name in whole), *model_presets()]


@cache
def model_presets() -> dict[str, str]:
    """Preset of a real model → its family; one for a GPU, and with `-8gpu` one for eight."""
    return {
        f"{name}{end}": entry["family"] for name, entry in _parts()["models"].items() for end in ("", EIGHT)
    }  # fmt: skip


def _composed(name: str) -> dict[str, Any]:
    """All, then the hardware, then the model; a model's own learning rate is scaled as the hardware scales it."""
    parts, model = _parts(), name.removesuffix(EIGHT)
    own = {key: value for key, value in parts["models"][model].items() if key != "family"}
    hardware = parts["hardware"]["8gpu" if name != model else "1gpu"]
    merged = _over(_over(parts["all"], hardware), own)
    if name != model and "learning_rate" in own.get("train", {}):
        ratio = hardware["train"]["learning_rate"] / parts["all"]["train"]["learning_rate"]
        merged["train"]["learning_rate"] = own["train"]["learning_rate"] * ratio
    return merged


def _over(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """`above` laid over `below`, section by section."""
    merged = dict(below)
    for key, value in above.items():
        merged[key] = _over(below[key], value) if isinstance(value, dict) and key in below else value
    return merged


@cache
def _parts() -> dict[str, Any]:
    parts: dict[str, Any] = yaml.safe_load((files(__name__) / FILE).read_text(encoding="utf-8"))
    return parts
