"""One sentence of the report, with a mark."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Tone = Literal["good", "bad", "plain"]


@dataclass(frozen=True)
class Finding:
    """One sentence under the headline; `tone` decides its mark."""

    text: str
    tone: Tone


def listed(parts: Sequence[str], last: str = "and") -> str:
    """`a, b and c`."""
    return parts[0] if len(parts) == 1 else f"{', '.join(parts[:-1])} {last} {parts[-1]}"


def gathered(when: Mapping[str, str]) -> dict[str, list[str]]:
    """Names by what is said of them, so that one sentence does for all."""
    found: dict[str, list[str]] = {}
    for name, said in when.items():
        found.setdefault(said, []).append(name)
    return found
