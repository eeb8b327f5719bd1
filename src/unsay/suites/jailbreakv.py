"""JailBreakV-28K (Luo et al. 2024, arXiv 2404.03027) and its questions, RedTeam-2K.

JailBreakV-28K (Luo et al. 2024, arXiv 2404.03027) and its mini part of 280.

20,000 of its items are 5,000 jailbreak texts, each with a blank, a noise, a nature and a diffusion picture: pictures
that hold nothing, items that are not independent. Each item's group is its RedTeam-2K question and its image type is
named, so that reports count distinct texts, cluster by question and split by picture. Blank pictures, and noise and
nature, are conditions of their own: a rate is never pooled over them and the pictures that belong.

RedTeam-2K (Luo et al. 2024, arXiv 2404.03027): the 2,000 questions behind JailBreakV-28K.
"""

from functools import partial
from pathlib import PurePosixPath

from unsay.data.sources.published import Pictures, Published, csv_rows, hub, text_field
from unsay.records import Condition, Kind, Modality
from unsay.suites.base import Suite
from unsay.suites.listing import Item, listed

DATASET, REVISION = "JailbreakV-28K/JailBreakV-28k", "f949ca582fff13d396ac8fce59596afafb2b78d3"
FILE = hub("jailbreakv_28k/RedTeam_2K.csv", DATASET, "JailBreakV_28K/RedTeam_2K.csv", REVISION)


def redteam_items() -> list[Item]:
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


REDTEAM_2K: Suite = Suite(
    name="redteam-2k",
    title="RedTeam-2K",
    kind=Kind.ATTACK,
    modality=Modality.TEXT,
    source=f"RedTeam-2K, huggingface.co/datasets/{DATASET}",
    licence="MIT",
    prompts=lambda setting: listed(REDTEAM_2K, redteam_items(), setting),
    size=2000,
    files=(FILE,),
)


WHOLE = hub("jailbreakv_28k/JailBreakV_28K.csv", DATASET, "JailBreakV_28K/JailBreakV_28K.csv", REVISION)
MINI = hub("jailbreakv_28k/mini_JailBreakV_28K.csv", DATASET, "JailBreakV_28K/mini_JailBreakV_28K.csv", REVISION)
PICTURES = Pictures(
    "jailbreakv_28k", "the folders figstep, query_related and llm_transfer_attack, from the form on the data set's page"
)
SAYS_NOTHING = {
    "llm_transfer_attack, blank": Condition.BLANK,
    "llm_transfer_attack, noise": Condition.UNRELATED,
    "llm_transfer_attack, nature": Condition.UNRELATED,
}
"""Types of picture that do not belong to their texts → the condition that they are."""
FOLDERS = ("figstep", "query_related", "llm_transfer_attack")


def items(file: Published) -> list[Item]:
    """The rows of the whole set or of its mini part, by attack format and policy.

    Raises:
        UserError: a file or picture is not here, or is malformed.
    """
    path = file.find()
    found = []
    for line, row in csv_rows(path, ("id", "jailbreak_query", "redteam_query", "format", "policy", "image_path")):
        picture = text_field(row["image_path"], path, "image_path", line)
        found.append(
            Item(
                text=text_field(row["jailbreak_query"], path, "jailbreak_query", line),
                request=text_field(row["redteam_query"], path, "redteam_query", line),
                category=text_field(row["policy"], path, "policy", line),
                image=partial(PICTURES.picture, picture),
                image_type=image_type(picture),
                condition=SAYS_NOTHING.get(image_type(picture)),
                key=text_field(row["id"], path, "id", line),
            )
        )
    return found


def image_type(path: str) -> str:
    """What kind of picture a path names: its folder, and in two of them the prefix of its file name."""
    folder, name = PurePosixPath(path).parts[0], PurePosixPath(path).name
    prefix = name.split("_", 1)[0]
    return folder if folder == "figstep" or "_" not in name else f"{folder}, {prefix}"


def _suite(name: str, title: str, file: Published, size: int) -> Suite:
    suite: Suite = Suite(
        name=name,
        title=title,
        kind=Kind.ATTACK,
        modality=Modality.IMAGE,
        source=f"JailBreakV-28K, huggingface.co/datasets/{DATASET}",
        licence="MIT",
        prompts=lambda setting: listed(suite, items(file), setting),
        size=size,
        files=(file, *(Pictures(f"jailbreakv_28k/{folder}", PICTURES.how) for folder in FOLDERS)),
    )
    return suite


SUITE = _suite("jailbreakv-28k", "JailBreakV-28K", WHOLE, 28_000)
SMALL = _suite("jailbreakv-mini", "JailBreakV-28K mini", MINI, 280)
