"""VQAv2 (Goyal et al. 2017, arXiv 1612.00837): short questions about COCO's pictures of 2014, answered by ten people.

The suite asks the validation half; training takes the train half, with the answer that most people gave.
"""

from collections.abc import Iterator

from unsay.assets import Url
from unsay.data.published import Pictures, Published, Row, json_list
from unsay.data.sources.licences import CC_BY
from unsay.data.sources.source import NORMAL, Source, Split
from unsay.records import Modality, SourceRow

SHORT = "Answer the question using a single word or phrase."


def files(half: str) -> tuple[Published, Published]:
    """Questions and annotations of `train` or `val`."""
    how = (
        f"v2_Questions_{half.title()}_mscoco.zip and v2_Annotations_{half.title()}_mscoco.zip of visualqa.org, unpacked"
    )
    return (
        Published(f"vqav2/v2_OpenEnded_mscoco_{half}2014_questions.json", how),
        Published(f"vqav2/v2_mscoco_{half}2014_annotations.json", how),
    )


def pictures(half: str) -> Pictures:
    """COCO's pictures of `train` or `val`."""
    return Pictures(
        f"coco/{half}2014",
        f"{half}2014.zip of cocodataset.org, unpacked",
        lambda name: Url(f"http://images.cocodataset.org/{half}2014/{name}"),
        "they are fetched by name, without hashes",
    )


def questions(half: str) -> Iterator[tuple[Row, Row, str]]:
    """Question, annotation and name of the picture of each row."""
    asked, annotated = files(half)
    annotations = {row.get("question_id"): row for row in json_list(annotated.find(), "annotations")}
    for row in json_list(asked.find(), "questions"):
        known = annotations.get(row.get("question_id"))
        if known is None or not isinstance(row.get("image_id"), int):
            raise row.error("no annotation, or no image_id")
        yield row, known, f"COCO_{half}2014_{row['image_id']:012d}.jpg"


def _rows() -> list[SourceRow]:
    return [
        SourceRow(
            text=row.text("question"),
            source="vqav2",
            category=known.get("answer_type"),
            answers=(known.text("multiple_choice_answer"),),
            prompt=f"{row.text('question')}\n{SHORT}",
            image=picture,
        )
        for row, known, picture in questions("train")
    ]


SOURCE = Source(
    "vqav2",
    "VQAv2, train half",
    "visualqa.org; Goyal et al. 2017, arXiv 1612.00837",
    CC_BY,
    {
        "train": Split(
            _rows, 443_757, NORMAL, Modality.IMAGE, (*files("train"), pictures("train")), pictures("train").picture
        )
    },
)
