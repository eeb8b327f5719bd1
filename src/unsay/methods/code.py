"""Whose code a method is: a release's, which its version pins, or the user's own, which changes under the same name."""

import inspect
from functools import cache
from pathlib import Path

from unsay.errors import UserError
from unsay.files import file_key

# Keys of stages, checkpoints and study runs that were made with these hold no code, and must go on holding none, or all
# of them would be made again. A release pins the code: version and commit stand in every run's environment.json. The
# names are written out because a method that somebody adds to this folder is edited like any other of their own.
PINNED = frozenset(
    f"unsay.methods.{name}"
    for name in (
        "circuit_breaker",
        "dpo",
        "grad_diff",
        "gradient_ascent",
        "idk",
        "kl_min",
        "npo",
        "prompt_decouple",
        "refusal_sft",
        "rmu",
        "safe_unlearning",
        "simnpo",
        "task_vector",
        "textual_unlearning",
    )
)
"""Modules of the methods that were released."""


@cache  # by class: the code that a process has loaded stays what it was when the file is edited
def code_key(method: type) -> tuple[str, ...]:
    """What belongs into the key of whatever a method makes, beside its name and settings.

    Args:
        method: its class.

    Returns:
        The content key of the file in which the class is written; nothing for a method of a release.

    Raises:
        UserError: there is no such file, or it cannot be read.
    """
    if method.__module__ in PINNED:
        return ()
    try:
        source = inspect.getsourcefile(method)
    except (OSError, TypeError):  # typed into an interpreter or a notebook
        source = None
    if source is None:
        raise UserError(
            f"method class {method.__name__}: it is written in no file, so an edit could not be told from what was "
            "trained before: put it into a module and import it"
        )
    return (file_key(Path(source)),)
