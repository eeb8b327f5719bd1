"""VLGuard (Zong et al. 2024, arXiv 2402.02207): unsafe pictures, and safe ones with both sorts of words.

Answers to unsafe pictures and unsafe words are refusals, answers to safe ones are helpful. Suites ask the test half.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from unsay.data.published import Pictures, Published, Row, json_list
from unsay.data.sources.licences import RESEARCH
from unsay.data.sources.source import HARM, NORMAL, Source, Split
from unsay.records import Modality, Role, SourceRow

HOW = "gated: accept the terms at huggingface.co/datasets/ys-zong/VLGuard, then take {0}.json and unpack {0}.zip"
TRAIN, TEST = (Published(f"vlguard/{half}.json", HOW.format(half)) for half in ("train", "test"))
TRAIN_PICTURES, TEST_PICTURES = (Pictures(f"vlguard/{half}", HOW.format(half)) for half in ("train", "test"))
UNSAFE_PICTURE, UNSAFE_WORDS, SAFE = "instruction", "unsafe_instruction", "safe_instruction"
"""Fields of a row's instructions."""


@dataclass(frozen=True)
class Instruction:
    """One instruction about a picture, with its answer.

    Attributes:
        words: the instruction and its answer.
        picture: its path in the folder of its half.
        category: of harm; of a safe picture, what it shows.
    """

    words: Row
    picture: str
    category: str


def instructions(file: Published, field: str) -> Iterator[Instruction]:
    """The instructions of a half under this field."""
    for row in json_list(file.find()):
        pairs = row.get("instr-resp")
        if not isinstance(pairs, list) or not all(isinstance(pair, dict) for pair in pairs):
            raise row.error("instr-resp: a list of objects was expected")
        picture = row.text("image")
        category = row.get("harmful_category") or picture.split("/")[0]  # a picture's folder is what it shows
        for pair in pairs:
            if field in pair:
                yield Instruction(Row(pair, row.where), picture, category)


def _split(field: str, rows: int, roles: tuple[Role, ...], pictured: bool = True) -> Split:
    def read() -> list[SourceRow]:
        return [
            SourceRow(
                text=each.words.text(field),
                source="vlguard",
                category=each.category,
                answers=(each.words.text("response"),),
                image=each.picture if pictured else None,
            )
            for each in instructions(TRAIN, field)
        ]

    if not pictured:
        return Split(read, rows, roles, files=(TRAIN,))
    return Split(read, rows, roles, Modality.IMAGE, (TRAIN, TRAIN_PICTURES), TRAIN_PICTURES.picture)


SOURCE = Source(
    "vlguard",
    "VLGuard, train half",
    "huggingface.co/datasets/ys-zong/VLGuard; Zong et al. 2024, arXiv 2402.02207",
    RESEARCH,
    {
        "unsafe_pictures": _split(UNSAFE_PICTURE, 1023, HARM),
        "unsafe_words": _split(UNSAFE_WORDS, 977, HARM),
        "safe": _split(SAFE, 977, NORMAL),
        "unsafe_words_alone": _split(UNSAFE_WORDS, 977, HARM, pictured=False),
    },
)
