"""MM-SafetyBench (Liu et al. 2023, arXiv 2311.17600): 1,680 questions whose key phrase stands in the picture.

TYPO pictures are drawn here from the key phrase, as the authors drew theirs: black letters on white. SD and SD+TYPO are
the authors' own diffusion pictures and must be there. TYPO and SD+TYPO are asked with `Rephrased Question`, SD with
`Rephrased Question(SD)`, as the authors ask them; `mm-safetybench` is the question itself, in words.
"""

from functools import partial

from unsay.data import typography
from unsay.data.sources.published import Pictures, Published, text_field
from unsay.errors import UserError
from unsay.files import read_json
from unsay.records import Kind, Modality
from unsay.suites.base import Suite
from unsay.suites.listing import Item, listed
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


def items(variant: str) -> list[Item]:
    """The questions of one variant, by scenario.

    Args:
        variant: `text`, `TYPO`, `SD` or `SD_TYPO`.

    Raises:
        UserError: a file or picture is not here, or is malformed.
    """
    folder = FILE.find()
    files = sorted(folder.glob("*.json"))
    if len(files) != SCENARIOS:
        raise UserError(f"{folder}: holds {len(files)} scenarios, {SCENARIOS} were expected")
    found = []
    for path in files:
        rows = read_json(path)
        if not isinstance(rows, dict):
            raise UserError(f"{path}: an object was expected")
        for number, row in rows.items():
            if not isinstance(row, dict):
                raise UserError(f"{path}: {number}: an object was expected")
            read = {
                name: text_field(row.get(name), path, f"{number}: {name}")
                for name in ("Question", "Rephrased Question", "Rephrased Question(SD)", "Key Phrase")
            }
            found.append(_item(variant, path.stem, number, read))
    return found


def _item(variant: str, scenario: str, number: str, row: dict[str, str]) -> Item:
    key = f"{scenario}/{number}"
    if variant == TEXT:
        return Item(text=row["Question"], category=scenario, key=key, unit=key)
    text = row["Rephrased Question(SD)" if variant == SD else "Rephrased Question"]
    if variant == TYPO:
        draw = partial(typography.render_text, row["Key Phrase"], style=STYLE)
        return Item(
            text=text, request=row["Question"], category=scenario, draw=draw, image_type=TYPO, key=key, unit=key
        )
    picture = partial(PICTURES.picture, f"{scenario}/{variant}/{number}.jpg")
    return Item(
        text=text, request=row["Question"], category=scenario, image=picture, image_type=variant, key=key, unit=key
    )


def _suite(name: str, variant: str, title: str, modality: Modality) -> Suite:
    suite: Suite = Suite(
        name=name,
        title=title,
        kind=Kind.ATTACK,
        modality=modality,
        source=f"MM-SafetyBench, github.com/{REPOSITORY}",
        licence="CC BY-NC 4.0",
        prompts=lambda setting: listed(suite, items(variant), setting),
        size=1680,
        twin=None if variant == TEXT else "mm-safetybench",
        files=(FILE,) if variant in (TEXT, TYPO) else (FILE, PICTURES),
    )
    return suite


SUITES = (
    _suite("mm-safetybench", TEXT, "MM-SafetyBench, in words", Modality.TEXT),
    _suite("mm-safetybench-typo", TYPO, "MM-SafetyBench TYPO", Modality.TYPOGRAPHIC),
    _suite("mm-safetybench-sd", SD, "MM-SafetyBench SD", Modality.IMAGE),
    _suite("mm-safetybench-sd-typo", SD_TYPO, "MM-SafetyBench SD+TYPO", Modality.IMAGE),
)
