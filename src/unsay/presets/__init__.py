"""Packaged configurations: whole YAML files, and those that are composed from the parts in `models.yaml`."""

from functools import cache
from importlib.resources import files
from math import log
from typing import Any

import yaml

from unsay.config import RunConfig, parse_config
from unsay.errors import UserError

FILE = "models.yaml"
ENDS = {"": "1gpu", "-24gb": "24gb", "-8gpu": "8gpu"}
"""Suffix of a model's preset → its hardware in `models.yaml`."""
NOT_SETTINGS = ("family", "type", "billions", "note")
"""Keys of a model in `models.yaml` that are not settings."""

LAUNCHES = ("ddp", "fsdp2", "zero3")
"""Packaged configurations of `accelerate launch`, in `accelerate/`."""


def launch_config(name: str) -> str:
    """The text of a packaged configuration of `accelerate launch`.

    Raises:
        UserError: an unknown name.
    """
    if name not in LAUNCHES:
        raise UserError(f"--launch: unknown '{name}'; known are {', '.join(LAUNCHES)}")
    return (files(__name__) / "accelerate" / f"{name}.yaml").read_text(encoding="utf-8")


def processes_of(launch: str) -> int:
    """How many processes a packaged configuration of `accelerate launch` starts."""
    return int(yaml.safe_load(launch_config(launch))["num_processes"])


def launch_of(name: str) -> str | None:
    """The `accelerate launch` configuration of a preset; None for a single process."""
    return "ddp" if name.endswith("-8gpu") else None


def preset(name: str) -> RunConfig:
    """A packaged configuration by its name.

    Raises:
        UserError: an unknown name.
    """
    if name in model_presets():
        model, hardware = _split(name)
        return _composed(_parts()["models"][model], hardware, f"preset {name}")
    path = files(__name__) / f"{name}.yaml"
    if path.name == FILE or not path.is_file():
        raise UserError(f"preset: unknown '{name}'; known are {', '.join(preset_names())}")
    return parse_config(path.read_text(encoding="utf-8"), f"preset {name}")


def note_of(name: str) -> str | None:
    """What must be done before a preset can be run, if anything."""
    note: str | None = _parts()["models"][_split(name)[0]].get("note") if name in model_presets() else None
    return note


def preset_names() -> list[str]:
    """Names of all presets."""
    whole = sorted(entry.name for entry in files(__name__).iterdir() if ".yaml" in entry.name and entry.name != FILE)
    return [*(name.removesuffix(".yaml") for name in whole), *model_presets()]


@cache
def model_presets() -> dict[str, str]:
    """Preset of a model → its family; one for a GPU, one for a GPU of 24 GB, and one for eight GPUs."""
    return {f"{name}{end}": entry["family"] for name, entry in _parts()["models"].items() for end in ENDS}


def nearest(model_type: str, parameters: int) -> str | None:
    """The preset of a `model_type` whose size is nearest; None if no preset has that type."""
    models = _parts()["models"].items()
    distance = {
        name: abs(log(parameters / 1e9 / entry["billions"])) for name, entry in models if entry["type"] == model_type
    }
    return min(distance, key=distance.__getitem__, default=None)


def settings_for(model: str, model_type: str, parameters: int, hardware: str = "1gpu") -> RunConfig:
    """Settings for any model, by its hardware, its size, and its family if a preset has it.

    Args:
        model: a checkpoint folder or a model id.
        model_type: `model_type` of its configuration.
        parameters: its number of parameters.
        hardware: a value of `ENDS`.
    """
    name = nearest(model_type, parameters)
    family = {} if name is None else _parts()["models"][name]
    return _composed({**family, "model": model, "billions": parameters / 1e9}, hardware, model)


def _split(name: str) -> tuple[str, str]:
    """Model and hardware of a model's preset."""
    end = next((end for end in ENDS if end and name.endswith(end)), "")
    return name.removesuffix(end), ENDS[end]


def _composed(entry: dict[str, Any], hardware: str, where: str) -> RunConfig:
    """Settings of all presets, overlaid by the hardware's, the size's, the size's on this hardware, and the model's.

    A learning rate of a size or a model is scaled as the hardware scales the general one.
    """
    parts = _parts()
    rate = parts["hardware"][hardware].get("train", {}).get("learning_rate")
    size = next(size for size in parts["sizes"].values() if entry["billions"] < size["below"])
    general = {key: value for key, value in size.items() if key != "below" and key not in parts["hardware"]}
    own = {key: value for key, value in entry.items() if key not in NOT_SETTINGS}
    special = _overlaid(_overlaid(general, size.get(hardware, {})), own)
    merged = _overlaid(_overlaid(parts["all"], parts["hardware"][hardware]), special)
    if rate is not None and "learning_rate" in special.get("train", {}):
        merged["train"]["learning_rate"] *= rate / parts["all"]["train"]["learning_rate"]
    return parse_config(yaml.safe_dump(merged), where)


def _overlaid(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
    """`below` with the values of `above`, section by section."""
    merged = dict(below)
    for key, value in above.items():
        merged[key] = _overlaid(below[key], value) if isinstance(value, dict) and key in below else value
    return merged


@cache
def _parts() -> dict[str, Any]:
    parts: dict[str, Any] = yaml.safe_load((files(__name__) / FILE).read_text(encoding="utf-8"))
    return parts
