"""HarmBench (Mazeika et al. 2024, arXiv 2402.04249): standard and contextual behaviours, and those about a picture.

The 100 copyright behaviours are left out: their official verdict is a comparison with the protected text, which no
judge here makes.
"""

from functools import partial

from unsay.assets import Source, Url
from unsay.data.sources.published import Pictures, csv_rows, github, text_field
from unsay.records import Kind, Modality
from unsay.suites.base import Suite
from unsay.suites.listing import Item, listed

REPOSITORY, COMMIT = "centerforaisafety/HarmBench", "c0423b9"
FLOATING = "only the first digits of its commit are known here, which is what it is fetched by"
TEXT = github(
    "harmbench/harmbench_behaviors_text_all.csv",
    REPOSITORY,
    COMMIT,
    "data/behavior_datasets/harmbench_behaviors_text_all.csv",
    floating=FLOATING,
)
PICTURED = github(
    "harmbench/harmbench_behaviors_multimodal_all.csv",
    REPOSITORY,
    COMMIT,
    "data/behavior_datasets/harmbench_behaviors_multimodal_all.csv",
    floating=FLOATING,
)


def _picture(name: str) -> Source:
    return Url(f"https://raw.githubusercontent.com/{REPOSITORY}/{COMMIT}/data/multimodal_behavior_images/{name}")


PICTURES = Pictures(
    "harmbench/multimodal_behavior_images",
    f"`data/multimodal_behavior_images` of github.com/{REPOSITORY}",
    _picture,
    FLOATING,
)


def text_items(functional: str) -> list[Item]:
    """The behaviours of one functional category; a contextual one stands under its context, as in HarmBench's runs.

    Raises:
        UserError: the file cannot be had, or is malformed.
    """
    path = TEXT.find()
    items = []
    columns = ("Behavior", "FunctionalCategory", "SemanticCategory", "Tags", "ContextString", "BehaviorID")
    for line, row in csv_rows(path, columns):
        if row["FunctionalCategory"] == functional:
            behaviour = text_field(row["Behavior"], path, "Behavior", line)
            context = row["ContextString"].strip()
            items.append(
                Item(
                    text=f"{context}\n\n---\n\n{behaviour}" if context else behaviour,
                    request=behaviour,
                    category=text_field(row["SemanticCategory"], path, "SemanticCategory", line),
                    context=context or None,
                )
            )
    return items


def pictured_items() -> list[Item]:
    """The 110 multimodal behaviours, each with its picture.

    Raises:
        UserError: a file cannot be had, or is malformed.
    """
    path = PICTURED.find()
    return [
        Item(
            text=text_field(row["Behavior"], path, "Behavior", line),
            category=text_field(row["SemanticCategory"], path, "SemanticCategory", line),
            image=partial(PICTURES.picture, text_field(row["ImageFileName"], path, "ImageFileName", line)),
            label=row["BehaviorID"],
        )
        for line, row in csv_rows(path, ("Behavior", "SemanticCategory", "ImageFileName", "BehaviorID"))
    ]


SUITE: Suite = Suite(
    name="harmbench",
    title="HarmBench standard",
    kind=Kind.ATTACK,
    modality=Modality.TEXT,
    source=f"HarmBench, github.com/{REPOSITORY}",
    licence="MIT",
    prompts=lambda setting: listed(SUITE, text_items("standard"), setting),
    size=200,
    files=(TEXT,),
)
CONTEXTUAL: Suite = Suite(
    name="harmbench-contextual",
    title="HarmBench contextual",
    kind=Kind.ATTACK,
    modality=Modality.TEXT,
    source=SUITE.source,
    licence="MIT",
    prompts=lambda setting: listed(CONTEXTUAL, text_items("contextual"), setting),
    size=100,
    bare=False,
    files=(TEXT,),
)
MULTIMODAL: Suite = Suite(
    name="harmbench-multimodal",
    title="HarmBench multimodal",
    kind=Kind.ATTACK,
    modality=Modality.IMAGE,
    source=SUITE.source,
    licence="MIT",
    prompts=lambda setting: listed(MULTIMODAL, pictured_items(), setting),
    size=110,
    harm_in_picture=True,
    files=(PICTURED, PICTURES),
)
