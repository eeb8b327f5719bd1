"""MM-SafetyBench (Liu et al. 2023, arXiv 2311.17600): 1,680 questions whose key phrase stands in the picture.

TYPO pictures are rendered here from the key phrase, as the authors rendered theirs: black letters on white. SD and
SD+TYPO are the authors' own diffusion pictures and must be there. TYPO and SD+TYPO are asked with `Rephrased Question`,
SD with `Rephrased Question(SD)`, as the authors ask them; `mm-safetybench` is the question itself, in words.
"""

from functools import partial

from unsay.data import typography
from unsay.data.published import Row
from unsay.data.sources.mm_safetybench import (
    FILE,
    PICTURES,
    REPOSITORY,
    SD,
    SD_TYPO,
    TEXT,
    TYPO,
    picture_name,
    questions,
    words,
)
from unsay.records import Kind, Modality
from unsay.suites.base import Item, Suite
from unsay.suites.twins import STYLE


def _items(variant: str) -> list[Item]:
    """The questions of one variant, by scenario."""
    return [_item(variant, *question) for question in questions()]


def _item(variant: str, scenario: str, number: str, row: Row) -> Item:
    question, key = row.text("Question"), f"{scenario}/{number}"
    if variant == TEXT:
        return Item(question, category=scenario, key=key, unit=key)
    typo = variant == TYPO
    return Item(
        words(row, variant),
        request=question,
        category=scenario,
        render=partial(typography.render_text, row.text("Key Phrase"), style=STYLE) if typo else None,
        image=None if typo else partial(PICTURES.picture, picture_name(scenario, variant, number)),
        image_type=variant,
        key=key,
        unit=key,
    )


def _suite(name: str, variant: str, title: str, modality: Modality) -> Suite:
    return Suite(
        name=name,
        title=title,
        kind=Kind.ATTACK,
        modality=modality,
        source=f"MM-SafetyBench, github.com/{REPOSITORY}",
        licence="CC BY-NC 4.0",
        items=partial(_items, variant),
        size=1680,
        twin=None if variant == TEXT else "mm-safetybench",
        files=(FILE,) if variant in (TEXT, TYPO) else (FILE, PICTURES),
    )


SUITES = (
    _suite("mm-safetybench", TEXT, "MM-SafetyBench, in words", Modality.TEXT),
    _suite("mm-safetybench-typo", TYPO, "MM-SafetyBench TYPO", Modality.TYPOGRAPHIC),
    _suite("mm-safetybench-sd", SD, "MM-SafetyBench SD", Modality.IMAGE),
    _suite("mm-safetybench-sd-typo", SD_TYPO, "MM-SafetyBench SD+TYPO", Modality.IMAGE),
)
