"""unsay: make a vision-language model unsay harmful answers, with text alone (arXiv 2406.02575)."""

import logging
from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from unsay.api import VLM, RunConfig, answer, compare, demo, evaluate, load, read_config, report, study, unlearn

# peft imports it wherever it is installed, and it remarks on kernels that are not here.
logging.getLogger("bitsandbytes").setLevel(logging.ERROR)

__all__ = [
    "VLM",
    "RunConfig",
    "answer",
    "compare",
    "demo",
    "evaluate",
    "load",
    "read_config",
    "report",
    "study",
    "unlearn",
]


def __getattr__(name: str) -> Any:
    # Loaded at first use: `import unsay` must not take the seconds that importing torch takes.
    if name in __all__:
        return getattr(import_module("unsay.api"), name)
    raise AttributeError(f"module 'unsay' has no attribute '{name}'")
