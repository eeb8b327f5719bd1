"""SafeEraser (Chen et al. 2025, arXiv 2502.12520): 3,000 pictures with harmful and harmless questions about them.

The archive is on Google Drive, which no program can fetch by itself. Its questions were generated with each picture;
`retain` are the harmless ones, with the answers of the authors' model.
"""

from functools import partial

from unsay.data.published import Pictures, Published, Row, json_list
from unsay.data.sources.licences import UNSTATED
from unsay.data.sources.source import HARM, NORMAL, Source, Split
from unsay.records import Modality, SourceRow

HOW = "safeeraser_dataset.zip, linked from github.com/yuu250/SafeEraser, unpacked as `safe_eraser`"
TRAIN = Published("safe_eraser/all_train.json", HOW)
PICTURES = Pictures("safe_eraser", HOW)
HARMLESS = ("UnharmPair_text1", "UnharmPair_text2", "UnharmPair_image1", "UnharmPair_image2")
"""Fields of the harmless questions of a picture."""


def _harmful() -> list[SourceRow]:
    """The harmful questions, with the answers of the authors' model."""
    rows = []
    for row in json_list(TRAIN.find()):
        pairs = row.get("unsafe_pairs")
        if not isinstance(pairs, list):
            raise row.error("unsafe_pairs: a list was expected")
        rows += [
            _row(row, pair.text("question"), harmful=harmful)
            for pair in map(partial(_pair, row), pairs)
            if (harmful := pair.filled("model_response"))
        ]
    return rows


def _harmless() -> list[SourceRow]:
    rows = []
    for row in json_list(TRAIN.find()):
        rows += [
            _row(row, pair.text("Question"), answers=pair.filled("Prediction"))
            for pair in (_pair(row, row[field]) for field in HARMLESS if field in row)
        ]
    return rows


def _pair(row: Row, pair: object) -> Row:
    if not isinstance(pair, dict):
        raise row.error("a question with its answer was expected")
    return Row(pair, row.where)


def _row(row: Row, text: str, **answers: tuple[str, ...]) -> SourceRow:
    # The authors' paths begin with the folder that their archive is unpacked in.
    path = row.text("image_path").removeprefix("./").removeprefix("dataset/")
    return SourceRow(text=text, source="safe_eraser", image=path, **answers)


SOURCE = Source(
    "safe_eraser",
    "SafeEraser",
    "github.com/yuu250/SafeEraser; Chen et al. 2025, arXiv 2502.12520",
    UNSTATED,
    {
        "forget": Split(_harmful, None, HARM, Modality.IMAGE, (TRAIN, PICTURES), PICTURES.picture),
        "retain": Split(_harmless, None, NORMAL, Modality.IMAGE, (TRAIN, PICTURES), PICTURES.picture),
    },
)
