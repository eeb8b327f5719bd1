"""RedTeam-2K (Luo et al. 2024, arXiv 2404.03027): the 2,000 questions behind JailBreakV-28K."""

from unsay.data.sources.published import hub
from unsay.data.sources.reading import csv_rows, text_field
from unsay.records import Kind, Modality
from unsay.suites.base import Suite
from unsay.suites.listing import Item, listed

DATASET, REVISION = "JailbreakV-28K/JailBreakV-28k", "f949ca582fff13d396ac8fce59596afafb2b78d3"
FILE = hub("jailbreakv_28k/RedTeam_2K.csv", DATASET, "JailBreakV_28K/RedTeam_2K.csv", REVISION)


def items() -> list[Item]:
    """The questions, by safety policy.

    Raises:
        UserError: the file cannot be had, or is malformed.
    """
    path = FILE.find()
    return [
        Item(
            text=text_field(row["question"], path, "question", line),
            category=text_field(row["policy"], path, "policy", line),
            key=row["id"],
        )
        for line, row in csv_rows(path, ("id", "question", "policy", "from"))
    ]


SUITE: Suite = Suite(
    name="redteam-2k",
    title="RedTeam-2K",
    kind=Kind.ATTACK,
    modality=Modality.TEXT,
    source=f"RedTeam-2K, huggingface.co/datasets/{DATASET}",
    licence="MIT",
    prompts=lambda setting: listed(SUITE, items(), setting),
    size=2000,
    files=(FILE,),
)
