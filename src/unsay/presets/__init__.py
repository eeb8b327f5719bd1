"""Ready configurations, as YAML files."""

from importlib.resources import files

from unsay.config import RunConfig, parse_config
from unsay.errors import UserError


def preset(name: str) -> RunConfig:
    """A packaged configuration by its name.

    Raises:
        UserError: there is none of that name.
    """
    path = files(__name__) / f"{name}.yaml"
    if not path.is_file():
        known = sorted(entry.name.removesuffix(".yaml") for entry in files(__name__).iterdir() if ".yaml" in entry.name)
        raise UserError(f"preset: unknown '{name}'; known are {', '.join(known)}")
    return parse_config(path.read_text(encoding="utf-8"), f"preset {name}")
