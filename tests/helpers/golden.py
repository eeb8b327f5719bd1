"""Golden outputs: a version in the code stands for a hash of what the code gives on fixed inputs.

Cached results are kept under versions, so an output that changes while its version does not would leave old results in
use. `check` fails then. `python -m tools.golden` writes the hashes.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeAlias

DIGITS = 3
"""Floats are rounded, so that machines agree."""

Output: TypeAlias = Callable[[], tuple[int, Any]]
"""The version of some code, and what it gives: plain JSON values."""


def entry(output: Output) -> dict[str, Any]:
    """The version and the hash of its outputs, as a golden file has them."""
    version, outputs = output()
    text = json.dumps(_rounded(outputs), sort_keys=True, ensure_ascii=False)
    return {"version": version, "hash": hashlib.sha256(text.encode()).hexdigest()[:16]}


def check(path: Path, name: str, output: Output) -> None:
    """Assert that outputs changed only where their version did, and that the file has today's version."""
    now, golden = entry(output), json.loads(path.read_text(encoding="utf-8")).get(name)
    write_again = f"{path.name}, '{name}': write the golden file again with `python -m tools.golden`"
    assert golden is not None, write_again
    assert now["version"] == golden["version"], write_again
    assert now["hash"] == golden["hash"], (
        f"outputs of '{name}' changed: raise its VERSION, then `python -m tools.golden`"
    )


def write(path: Path, outputs: Mapping[str, Output]) -> list[str]:
    """Write the golden file; refuse outputs that changed under an old version.

    Returns:
        The names whose outputs changed while their version did not. Nothing is written then.
    """
    now = {name: entry(output) for name, output in sorted(outputs.items())}
    old = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    stale = [
        name
        for name, one in now.items()
        if old.get(name, one)["version"] == one["version"] and old.get(name, one) != one
    ]
    if not stale:
        path.write_text(json.dumps(now, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return stale


def _rounded(value: Any) -> Any:
    if isinstance(value, float):
        return round(value, DIGITS) + 0.0  # -0.0 is 0.0
    if isinstance(value, Mapping):
        return {str(key): _rounded(one) for key, one in value.items()}
    return [_rounded(one) for one in value] if isinstance(value, list | tuple) else value
