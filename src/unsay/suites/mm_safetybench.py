"""MM-SafetyBench (Liu et al. 2023, arXiv 2311.17600): 1,680 questions whose key phrase stands in the picture.

TYPO pictures are rendered here from the key phrase, as the authors rendered theirs: black letters on white. SD and
SD+TYPO are the authors' own diffusion pictures and must be there. TYPO and SD+TYPO are asked with `Rephrased Question`,
SD with `Rephrased Question(SD)`, as the authors ask them; `mm-safetybench` is the question itself, in words.
"""

from functools import partial

from unsay.data import typography
from unsay.data.published import Pictures, Published, Row, json_object
from unsay.errors import UserError
from unsay.records import Kind, Modality
from unsay.suites.base import Item, Suite
from unsay.suites.twins import STYLE

REPOSITORY = "isXinLiu/MM-SafetyBench"
FILE = Published(
    "mm_safetybench/processed_questions",
    f"the folder `data/processed_questions` of github.com/{REPOSITORY} at b80eedea",
    floating="it comes by hand; tested on commit b80eedea",
)
PICTURES = Pictures(
    "mm_safetybench/imgs", f"the archive of pictures that github.com/{REPOSITORY} links to, unpacked as `imgs`"
)
SCENARIOS = 13
TEXT, TYPO, SD, SD_TYPO = "text", "TYPO", "SD", "SD_TYPO"
"""Variants, by the names of the authors' folders."""


def _items(variant: str) -> list[Item]:
    """The questions of one variant, by scenario."""
    folder = FILE.find()
    files = sorted(folder.glob("*.json"))
    if len(files) != SCENARIOS:
        raise UserError(f"{folder}: holds {len(files)} scenarios, {SCENARIOS} were expected")
    return [_item(variant, path.stem, *entry) for path in files for entry in json_object(path).items()]


def _item(variant: str, scenario: str, number: str, row: Row) -> Item:
    question, key = row.text("Question"), f"{scenario}/{number}"
    if variant == TEXT:
        return Item(question, category=scenario, key=key, unit=key)
    typo = variant == TYPO
    return Item(
        row.text("Rephrased Question(SD)" if variant == SD else "Rephrased Question"),
        request=question,
        category=scenario,
        render=partial(typography.render_text, row.text("Key Phrase"), style=STYLE) if typo else None,
        image=None if typo else partial(PICTURES.picture, f"{scenario}/{variant}/{number}.jpg"),
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
