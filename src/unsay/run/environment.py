"""What a run was made with: versions, hardware, the code's commit, the pinned assets, and the weights' precision."""

import os
import platform
import subprocess
import textwrap
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil
import torch
from pydantic import JsonValue

from unsay import __version__
from unsay.assets import ASSETS
from unsay.config import RunConfig
from unsay.errors import UserError
from unsay.files import content_key
from unsay.models.loading import stored_precision

FORMAT = 2
"""Of run directories. Raise it when finished stages of earlier directories can no longer be reused (other keys)."""
LIBRARIES = ("torch", "transformers", "peft", "numpy", "pillow", "matplotlib", "scikit-learn")


def environment(processes: int = 1) -> dict[str, object]:
    """The content of `environment.json`; `processes` train together."""
    return {
        "format": FORMAT,
        **versions(),
        "commit": commit(Path(__file__).parent),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "processor": platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "processes": processes,
        "memory_bytes": psutil.virtual_memory().total,
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "assets": {name: content_key([[m.path, m.sha256] for m in asset.members]) for name, asset in ASSETS.items()},
    }


def versions() -> dict[str, object]:
    """The versions of unsay and of the libraries that decide numbers."""
    return {"unsay": __version__, "libraries": {name: version(name) for name in LIBRARIES}}


def hardware(environment: Mapping[str, Any]) -> tuple[Any, ...]:
    """The part of an environment that decides how long work takes: cores, threads, accelerator."""
    return tuple(environment.get(name) for name in ("cores", "threads", "accelerator"))


def commit(folder: Path) -> str | None:
    """The git commit of the checkout that tracks the files of `folder`, with a `+` if they were edited; else None."""
    try:
        # An installed copy can lie inside another project's checkout, which does not track it.
        _git(folder, "ls-files", "--error-unmatch", ".")
        edited = _git(folder, "status", "--porcelain", "--untracked-files=no", ".")
        return _git(folder, "rev-parse", "HEAD") + ("+" if edited else "")
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *words: str) -> str:
    plain = {**os.environ, "LC_ALL": "C"}
    done = subprocess.run(["git", *words], cwd=folder, capture_output=True, text=True, timeout=5, check=True, env=plain)
    return done.stdout.strip()


def precision_settings(config: RunConfig) -> dict[str, JsonValue]:
    """The precision of the weights in a run directory's settings; empty for a server's, which is not known."""
    if config.evaluation.responder is not None:
        return {}
    return {"dtype": weight_dtype(config), "quantisation": config.model_settings.quantisation}


def precision_name(config: RunConfig) -> str:
    """The precision of the weights for people: `bfloat16`, or `4 bits`."""
    return "4 bits" if config.model_settings.quantisation is not None else weight_dtype(config)


def weight_dtype(config: RunConfig) -> str:
    """The precision of the weights that are not stored in 4 bits; `auto` where it is not known."""
    if config.model_settings.dtype != "auto":
        return config.model_settings.dtype
    try:
        return stored_precision(config.model)
    except UserError:
        return "auto"  # a finished run must not fail at its end because a model hub is unreachable


def check_device(name: str) -> None:
    """Assert that tensors can be put on a device, or raise a `UserError`."""
    try:
        torch.zeros(1, device=name).item()
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        reason = textwrap.shorten(str(error).strip().splitlines()[0], 120, placeholder=" …")
        raise UserError(f"device: '{name}' cannot be used here: {reason}; cpu can") from None
