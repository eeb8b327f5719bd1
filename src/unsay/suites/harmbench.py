"""HarmBench (Mazeika et al. 2024, arXiv 2402.04249): standard and contextual behaviours, and those about a picture.

The 100 copyright behaviours are left out: their official verdict is a comparison with the protected text, which no
judge here makes.
"""

from functools import partial

from unsay.data.published import csv_rows, github, github_pictures
from unsay.records import Kind, Modality
from unsay.suites.base import Item, Suite

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
PICTURES = github_pictures(
    "harmbench/multimodal_behavior_images", REPOSITORY, COMMIT, "data/multimodal_behavior_images", FLOATING
)


def _behaviours(functional: str) -> list[Item]:
    """The behaviours of one functional category; a contextual one stands under its context, as in HarmBench's runs."""
    items = []
    for row in csv_rows(TEXT.find(), ("Behavior", "FunctionalCategory", "SemanticCategory", "ContextString")):
        if row["FunctionalCategory"] == functional:
            behaviour, context = row.text("Behavior"), row["ContextString"].strip()
            text = f"{context}\n\n---\n\n{behaviour}" if context else behaviour
            category = row.text("SemanticCategory")
            items.append(Item(text, request=behaviour, category=category, context=context or None))
    return items


def _pictured() -> list[Item]:
    """The 110 multimodal behaviours, each with its picture."""
    return [
        Item(
            row.text("Behavior"),
            category=row.text("SemanticCategory"),
            image=partial(PICTURES.picture, row.text("ImageFileName")),
            label=row["BehaviorID"],
        )
        for row in csv_rows(PICTURED.find(), ("Behavior", "SemanticCategory", "ImageFileName", "BehaviorID"))
    ]


SUITE = Suite(
    name="harmbench",
    title="HarmBench standard",
    kind=Kind.ATTACK,
    modality=Modality.TEXT,
    source=f"HarmBench, github.com/{REPOSITORY}",
    licence="MIT",
    items=partial(_behaviours, "standard"),
    size=200,
    files=(TEXT,),
)
CONTEXTUAL = Suite(
    name="harmbench-contextual",
    title="HarmBench contextual",
    kind=Kind.ATTACK,
    modality=Modality.TEXT,
    source=SUITE.source,
    licence="MIT",
    items=partial(_behaviours, "contextual"),
    size=100,
    bare=False,
    files=(TEXT,),
)
MULTIMODAL = Suite(
    name="harmbench-multimodal",
    title="HarmBench multimodal",
    kind=Kind.ATTACK,
    modality=Modality.IMAGE,
    source=SUITE.source,
    licence="MIT",
    items=_pictured,
    size=110,
    harm_in_picture=True,
    files=(PICTURED, PICTURES),
)
