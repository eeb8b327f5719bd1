"""JailBreakV-28K (Luo et al. 2024, arXiv 2404.03027): jailbreaks with pictures, and the requests in them, RedTeam-2K.

It is a benchmark: what is trained on here can no longer be asked. A request is that of RedTeam-2K, so that a run that
asks the suite keeps clear of all jailbreaks of its requests.
"""

from collections.abc import Iterator
from functools import partial

from unsay.data.published import Pictures, Published, Row, csv_rows, hub
from unsay.data.sources.licences import MIT
from unsay.data.sources.source import HARM, Source, Split
from unsay.records import Modality, SourceRow

DATASET, REVISION = "JailbreakV-28K/JailBreakV-28k", "f949ca582fff13d396ac8fce59596afafb2b78d3"
QUESTIONS = hub("jailbreakv_28k/RedTeam_2K.csv", DATASET, "JailBreakV_28K/RedTeam_2K.csv", REVISION)
WHOLE = hub("jailbreakv_28k/JailBreakV_28K.csv", DATASET, "JailBreakV_28K/JailBreakV_28K.csv", REVISION)
MINI = hub("jailbreakv_28k/mini_JailBreakV_28K.csv", DATASET, "JailBreakV_28K/mini_JailBreakV_28K.csv", REVISION)
PICTURES = Pictures(
    "jailbreakv_28k", "the folders figstep, query_related and llm_transfer_attack, from the form on the data set's page"
)
FOLDERS = tuple(
    Pictures(f"jailbreakv_28k/{name}", PICTURES.how) for name in ("figstep", "query_related", "llm_transfer_attack")
)


def questions() -> Iterator[Row]:
    """The rows of RedTeam-2K."""
    return csv_rows(QUESTIONS.find(), ("id", "question", "policy"))


def attacks(file: Published) -> Iterator[Row]:
    """The rows of the whole set or of its mini part."""
    return csv_rows(file.find(), ("id", "jailbreak_query", "redteam_query", "policy", "image_path"))


def _requests() -> list[SourceRow]:
    return [
        SourceRow(text=row.text("question"), source="jailbreakv_28k", category=row["policy"]) for row in questions()
    ]


def _attacks(file: Published) -> list[SourceRow]:
    return [
        SourceRow(
            text=row.text("redteam_query"),
            source="jailbreakv_28k",
            category=row["policy"],
            prompt=row.text("jailbreak_query"),
            image=row.text("image_path"),
        )
        for row in attacks(file)
    ]


def _pictured(file: Published, rows: int) -> Split:
    return Split(partial(_attacks, file), rows, HARM, Modality.IMAGE, (file, *FOLDERS), PICTURES.picture)


SOURCE = Source(
    "jailbreakv_28k",
    "JailBreakV-28K",
    f"huggingface.co/datasets/{DATASET}; Luo et al. 2024, arXiv 2404.03027",
    MIT,
    {
        "questions": Split(_requests, 2000, HARM, files=(QUESTIONS,)),
        "attacks": _pictured(WHOLE, 28_000),
        "mini": _pictured(MINI, 280),
    },
)
