"""Ready configurations: whole YAML files, and those of `models.yaml`, which are put together from few parts."""

from functools import cache
from importlib.resources import files
from math import log
from typing import Any

import yaml

from unsay.config import RunConfig, parse_config
from unsay.errors import UserError

FILE = "models.yaml"
ENDS = {"": "1gpu", "-24gb": "24gb", "-8gpu": "8gpu"}
"""How the name of a model's preset ends → the hardware in `models.yaml` that it is for."""
OF_MODELS = ("family", "type", "billions", "note")
"""What an entry of `models.yaml` says beside settings."""

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


def processes_of(launch: str) -> int:
    """How many processes a packaged configuration of `accelerate launch` starts."""
    return int(yaml.safe_load(launch_config(launch))["num_processes"])


def launch_of(name: str) -> str | None:
    """How the run of a preset is launched; None where one process is enough."""
    return "ddp" if name.endswith("-8gpu") else None


def preset(name: str) -> RunConfig:
    """A packaged configuration by its name.

    Raises:
        UserError: there is none of that name.
    """
    if name in model_presets():
        model, hardware = _split(name)
        return _put_together(_parts()["models"][model], hardware, f"preset {name}")
    path = files(__name__) / f"{name}.yaml"
    if path.name == FILE or not path.is_file():
        raise UserError(f"preset: unknown '{name}'; known are {', '.join(preset_names())}")
    return parse_config(path.read_text(encoding="utf-8"), f"preset {name}")


def note_of(name: str) -> str | None:
    """What must be done before a preset can be run; None where nothing must."""
    note: str | None = _parts()["models"][_split(name)[0]].get("note") if name in model_presets() else None
    return note


def preset_names() -> list[str]:
    """Every preset's name."""
    whole = sorted(entry.name for entry in files(__name__).iterdir() if ".yaml" in entry.name and entry.name != FILE)
    return [*(name.removesuffix(".yaml") for name in whole), *model_presets()]


@cache
def model_presets() -> dict[str, str]:
    """Preset of a real model → its family; one for a GPU, one for a GPU of 24 GB, and one for eight."""
    return {f"{name}{end}": entry["family"] for name, entry in _parts()["models"].items() for end in ENDS}


def nearest(model_type: str, parameters: int) -> str | None:
    """The preset of a model's family, by its `model_type`; of several that whose size is nearest; None if none is."""
    found = {name: entry for name, entry in _parts()["models"].items() if entry["type"] == model_type}
    distance = {name: abs(log(parameters / 1e9 / entry["billions"])) for name, entry in found.items()}
    return min(distance, key=distance.__getitem__, default=None)


def settings_for(model: str, model_type: str, parameters: int, hardware: str = "1gpu") -> RunConfig:
    """Settings for a model that need not have a preset: its hardware's, its size's, and its family's own.

    Args:
        model: a checkpoint folder or a model id.
        model_type: of its configuration.
        parameters: how many it has.
        hardware: a value of `ENDS`.
    """
    name = nearest(model_type, parameters)
    family = {} if name is None else _parts()["models"][name]
    return _put_together({**family, "model": model, "billions": parameters / 1e9}, hardware, model)


def _split(name: str) -> tuple[str, str]:
    """Model and hardware of a model's preset."""
    end = next((end for end in ENDS if end and name.endswith(end)), "")
    return name.removesuffix(end), ENDS[end]


def _put_together(entry: dict[str, Any], hardware: str, where: str) -> RunConfig:
    """All, then the hardware, then the size, there first in general and then on this hardware, then the model.

    A learning rate of a size or a model is scaled as the hardware scales the general one.
    """
    parts = _parts()
    rate = parts["hardware"][hardware].get("train", {}).get("learning_rate")
    size = next(size for size in parts["sizes"].values() if entry["billions"] < size["below"])
    general = {key: value for key, value in size.items() if key != "below" and key not in parts["hardware"]}
    special = _over(
        _over(general, size.get(hardware, {})), {key: value for key, value in entry.items() if key not in OF_MODELS}
    )
    merged = _over(_over(parts["all"], parts["hardware"][hardware]), special)
    if rate is not None and "learning_rate" in special.get("train", {}):
        merged["train"]["learning_rate"] *= rate / parts["all"]["train"]["learning_rate"]
    return parse_config(yaml.safe_dump(merged), where)


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
