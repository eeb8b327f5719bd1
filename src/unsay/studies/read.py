"""Studies by name, by file, or in part.

Studies by name and by file.

A part of a study: some of its arms, for one of many jobs.
"""

from collections.abc import Sequence
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from unsay.errors import UserError
from unsay.files import first_problem, parse_yaml, read_text
from unsay.studies.plan import arms_of, measured_rules, quickened, rebased, reference_of
from unsay.studies.settings import SEEDS, Fitted, StudySettings


def listed(names: str) -> list[str]:
    """Names, comma-separated, each once."""
    return list(dict.fromkeys(name.strip() for name in names.split(",") if name.strip()))


def part(study: StudySettings, names: Sequence[str]) -> StudySettings:
    """The study with these arms alone, and its reference where others have for a budget what that used.

    Runs are those of the whole study, under the same keys, so parts can be put together. A part without the reference
    compares its arms with the first of them.

    Args:
        study: the whole.
        names: arms.

    Raises:
        UserError: none, or an arm that there is not.
    """
    arms, reference = arms_of(study), reference_of(study)
    if not names:
        raise UserError(f"--arms: expected names like {','.join(list(arms)[:2])}")
    if strange := next((name for name in names if name not in arms), None):
        raise UserError(f"--arms: there is no arm '{strange}'; there are {', '.join(arms)}")
    needed = {*names, *([reference] if measured_rules(study) else [])}
    return study.model_copy(
        update={
            "grid": None,
            "arms": {name: arm for name, arm in arms.items() if name in needed},
            "reference": reference if reference in needed else None,
        }
    )


def packaged() -> dict[str, Traversable]:
    """The studies that come with the package, by name."""
    folder = files("unsay.presets") / "studies"
    found = sorted((entry for entry in folder.iterdir() if entry.name.endswith(".yaml")), key=lambda entry: entry.name)
    return {entry.name.removesuffix(".yaml"): entry for entry in found}


def read_study(name_or_path: str) -> StudySettings:
    """A packaged study by its name, or any study by its file; paths in a file are taken relative to it.

    Raises:
        UserError: neither, malformed YAML, an unknown key or a bad value; names the file and the key.
    """
    known = packaged()
    if name_or_path in known:
        return parse_study(known[name_or_path].read_text(encoding="utf-8"), f"study {name_or_path}")
    path = Path(name_or_path)
    if not path.exists() and path.suffix not in (".yaml", ".yml"):
        raise UserError(f"study: unknown '{name_or_path}'; known are {', '.join(known)}, or give a YAML file")
    study = parse_study(read_text(path), str(path))
    quick = study.quick
    return study.model_copy(
        update={
            "base": _anchored(study.base, path.parent) if isinstance(study.base, dict) else study.base,
            "settings": _anchored(study.settings, path.parent),
            "model_settings": {name: _anchored(own, path.parent) for name, own in study.model_settings.items()},
            "arms": {
                name: arm.model_copy(update={"settings": _anchored(arm.settings, path.parent)})
                for name, arm in study.arms.items()
            },
            "quick": quick.model_copy(update={"settings": _anchored(quick.settings, path.parent)}),
        }
    )


def parse_study(text: str, where: str) -> StudySettings:
    """Parse a study.

    Args:
        text: YAML.
        where: named in error messages.

    Raises:
        UserError: malformed YAML, an unknown key or a bad value.
    """
    values = parse_yaml(text, where)
    if not isinstance(values, dict) or not all(isinstance(key, str) for key in values):
        raise UserError(f"{where}: expected a study as `key: value` lines")
    try:
        return StudySettings.model_validate(values)
    except ValidationError as error:
        raise UserError(f"{where}: {first_problem(error)}") from None


def adjusted(
    study: StudySettings,
    *,
    base: str | None = None,
    arms: str = "",
    model: str | None = None,
    seeds: str = "",
    device: str | None = None,
    quick: bool = False,
) -> StudySettings:
    """The study with what the command line says instead.

    Args:
        study: as it was read.
        base: a preset or a file, in place of its base.
        arms: comma-separated, those that are to be run; the reference is added where it measures a budget.
        model: in place of its models.
        seeds: comma-separated, in place of its seeds, those of `--quick` too.
        device: in place of its device.
        quick: its smaller variant.

    Raises:
        UserError: a base that is none or does not fit, an unknown arm, seeds that are no numbers, one that no run can
            have, or one that stands twice.
    """
    if base is not None:
        study = rebased(study, base)
    if quick:
        study = quickened(study)
    if arms.strip():
        study = part(study, listed(arms))
    more: dict[str, Any] = {}
    if model is not None:
        more["models"] = (model,)
    if seeds.strip():
        try:
            more["seeds"] = tuple(int(seed) for seed in seeds.split(","))
        except ValueError:
            raise UserError(f"--seeds: '{seeds}': expected whole numbers like 0,1,2") from None
        if not all(seed in SEEDS for seed in more["seeds"]):
            raise UserError(f"--seeds: '{seeds}': a seed is at least 0 and below 2**63")
        if len(set(more["seeds"])) < len(more["seeds"]):
            raise UserError(f"--seeds: '{seeds}': one of them stands twice")
    if quick or arms.strip():
        # A base is replaced above; what was fitted may name what the smaller study no longer has.
        more["fitted"] = Fitted()
    if device is not None:
        more["settings"] = {**study.settings, "device": device}
        more["model_settings"] = {
            name: {key: value for key, value in own.items() if key != "device"}
            for name, own in study.model_settings.items()
        }
    return study.model_copy(update=more)


def _anchored(settings: dict[str, Any], folder: Path) -> dict[str, Any]:
    data = settings.get("data")
    if not isinstance(data, dict) or not isinstance(data.get("examples"), str):
        return settings
    return {**settings, "data": {**data, "examples": str((folder / data["examples"]).resolve())}}
