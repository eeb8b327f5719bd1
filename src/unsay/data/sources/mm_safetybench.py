"""MM-SafetyBench (Liu et al. 2023, arXiv 2311.17600): questions in 13 scenarios, in words and with pictures.

It is a benchmark: what is trained on here can no longer be asked. In the authors' pictures the key phrase of a question
is written (TYPO), painted (SD) or both (SD_TYPO).
"""

from collections.abc import Iterator
from functools import partial

from unsay.data.published import FormatError, Pictures, Published, Row, json_object
from unsay.data.sources.licences import CC_BY_NC
from unsay.data.sources.source import HARM, Source, Split
from unsay.records import Modality, SourceRow

REPOSITORY = "isXinLiu/MM-SafetyBench"
FILE = Published(
    "mm_safetybench/processed_questions",
    f"the folder `data/processed_questions` of github.com/{REPOSITORY} at b80eedea",
    floating="it comes by hand; tested on commit b80eedea",
)
PICTURES = Pictures(
    "mm_safetybench/imgs", f"the archive of pictures that github.com/{REPOSITORY} links to, unpacked as `imgs`"
)
SCENARIOS = 13
TEXT, TYPO, SD, SD_TYPO = "text", "TYPO", "SD", "SD_TYPO"
"""Variants, by the names of the authors' folders."""


def questions() -> Iterator[tuple[str, str, Row]]:
    """Scenario, number in it, and fields of every question."""
    folder = FILE.find()
    files = sorted(folder.glob("*.json"))
    if len(files) != SCENARIOS:
        raise FormatError(f"{folder}: holds {len(files)} scenarios, {SCENARIOS} were expected")
    for path in files:
        for number, row in json_object(path).items():
            yield path.stem, number, row


def words(row: Row, variant: str) -> str:
    """What is asked beside the picture of a variant, as the authors ask it."""
    return row.text("Rephrased Question(SD)" if variant == SD else "Rephrased Question")


def picture_name(scenario: str, variant: str, number: str) -> str:
    """The path of a picture in the authors' archive."""
    return f"{scenario}/{variant}/{number}.jpg"


def _rows(variant: str) -> list[SourceRow]:
    return [
        SourceRow(
            text=row.text("Question"),
            source="mm_safetybench",
            category=scenario,
            prompt=None if variant == TEXT else words(row, variant),
            image=None if variant == TEXT else picture_name(scenario, variant, number),
        )
        for scenario, number, row in questions()
    ]


def _pictured(variant: str) -> Split:
    modality = Modality.TYPOGRAPHIC if variant == TYPO else Modality.IMAGE
    return Split(partial(_rows, variant), 1680, HARM, modality, (FILE, PICTURES), PICTURES.picture)


SOURCE = Source(
    "mm_safetybench",
    "MM-SafetyBench",
    f"github.com/{REPOSITORY}; Liu et al. 2023, arXiv 2311.17600",
    CC_BY_NC,
    {
        "questions": Split(partial(_rows, TEXT), 1680, HARM, files=(FILE,)),
        "typo": _pictured(TYPO),
        "sd": _pictured(SD),
        "sd_typo": _pictured(SD_TYPO),
    },
)
