"""Questions about pictures, by VQA accuracy over ten annotators: VQAv2 and TextVQA, the validation halves.

VQAv2 (Goyal et al. 2017, arXiv 1612.00837) asks about COCO's validation pictures of 2014, as POPE does; TextVQA (Singh
et al. 2019, arXiv 1904.08920) asks about words in pictures.
"""

from functools import partial

from unsay.assets import Url
from unsay.data.published import Pictures, Published, json_list
from unsay.data.sources import vqav2
from unsay.data.sources.vqav2 import SHORT
from unsay.records import Kind, Modality
from unsay.suites import scorers
from unsay.suites.base import Item, Measure, Suite

TEXTVQA_ADDRESS = "https://dl.fbaipublicfiles.com/textvqa/data/TextVQA_0.5.1_val.json"
TEXTVQA_QUESTIONS = Published(
    "textvqa/TextVQA_0.5.1_val.json",
    TEXTVQA_ADDRESS,
    Url(TEXTVQA_ADDRESS),
    floating="its address names a version (0.5.1); no hash is known here",
)
TEXTVQA_PICTURES = Pictures(
    "textvqa/train_images", "dl.fbaipublicfiles.com/textvqa/images/train_val_images.zip, unpacked"
)
VAL2014 = vqav2.pictures("val")


def _vqav2() -> list[Item]:
    """The questions, by answer type; questions about one picture are one cluster."""
    items = []
    for row, known, picture in vqav2.questions("val"):
        answers = known.get("answers")
        if not isinstance(answers, list) or not answers:
            raise known.error("answers: a list was expected")
        items.append(
            Item(
                f"{row.text('question')}\n{SHORT}",
                category=known.get("answer_type"),
                image=partial(VAL2014.picture, picture),
                label=str(row.get("question_id")),
                cluster=picture,
                reference=known.get("multiple_choice_answer"),
                answers=tuple(str(person.get("answer")) for person in answers),
            )
        )
    return items


def _textvqa() -> list[Item]:
    items = []
    for row in json_list(TEXTVQA_QUESTIONS.find(), "data"):
        if not isinstance(row.get("answers"), list):
            raise row.error("answers: a list was expected")
        picture = row.text("image_id")
        items.append(
            Item(
                f"{row.text('question')}\n{SHORT}",
                image=partial(TEXTVQA_PICTURES.picture, f"{picture}.jpg"),
                label=str(row.get("question_id")),
                cluster=picture,
                answers=tuple(map(str, row["answers"])),
            )
        )
    return items


VQAV2 = Suite(
    name="vqav2",
    title="VQAv2 accuracy",
    kind=Kind.UTILITY,
    modality=Modality.IMAGE,
    source="VQAv2 validation, visualqa.org",
    licence="CC BY 4.0",
    items=_vqav2,
    size=214_354,
    by_category=True,
    measure=Measure(scorers.vqa_value),
    files=(*vqav2.files("val"), VAL2014),
)
TEXTVQA = Suite(
    name="textvqa",
    title="TextVQA accuracy",
    kind=Kind.UTILITY,
    modality=Modality.IMAGE,
    source="TextVQA 0.5.1 validation, textvqa.org",
    licence="CC BY 4.0",
    items=_textvqa,
    size=5000,
    measure=Measure(scorers.textvqa_value),
    files=(TEXTVQA_QUESTIONS, TEXTVQA_PICTURES),
)
