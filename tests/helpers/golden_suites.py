"""What suites and the training recipe give for small, fixed data: recorded in tests/suites/golden.json."""

import os
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from helpers import published, published_text
from helpers.golden import Output
from helpers.harmful import harmful_examples
from unsay.data import recipe, renderers, shape_scenes, typography
from unsay.data.pictures import Rendering, pixel_key, read_image, visual_questions
from unsay.data.published import DATA_DIR_VARIABLE
from unsay.data.recovery import with_beginnings
from unsay.data.sources import halves
from unsay.records import Example, Modality, Prompt, Response
from unsay.suites import SUITES, UNLISTED, Setting, Suite, find_suite, get_suite, twins

LIMIT = 16
ANSWERS = ("", "Yes.", "No, it is not.", "B", "The answer is C.", "red", "[something else]")
PUBLISHED = published.EXPECTED | published_text.EXPECTED
DRAWN = tuple(f"benign-{name}" for name in renderers.RENDERERS)
CONDITIONS = ("contrast+blank", "contrast+unrelated", "siuo+unrelated", "siuo+no-image", "shapes+no-image")


def suite_output(name: str) -> tuple[list[int], Any]:
    """(versions, prompts and values) of a suite, on small files in the published format where it needs files."""
    suite = get_suite(name)
    with TemporaryDirectory() as folder, _data_dir(Path(folder) / "data") as data:
        if suite.files:
            _fixture(name)(data)
        rows = suite.prompts(Setting(Path(folder) / "images", LIMIT))
        return _versions(suite), [[_content(row) for row in rows], _values(suite, rows[:4])]


def has_pictures(name: str) -> bool:
    """Whether an output has pixels in it, which depend on the version of Pillow."""
    suite = find_suite(name)
    if suite is None:
        return name != "recipe, text"
    return suite.modality is not Modality.TEXT or suite.condition is not None


def _versions(suite: Suite) -> list[int]:
    """Of the suite; with pictures, those of twins, text, renderers and scenes as well, which make them."""
    drawing = [twins.VERSION, typography.VERSION, renderers.VERSION, shape_scenes.VERSION]
    return [suite.version, *(drawing if has_pictures(suite.name) else [])]


def _fixture(name: str) -> Callable[[Path], None]:
    """Writes the small files of a suite, or of the one that a twin or condition is made from."""
    base = name.partition("+")[0]
    if base.startswith(("dev-", "report-")):
        return published_text.development
    return PUBLISHED[base if base in PUBLISHED else base.rpartition("-")[0]][0]


@contextmanager
def _data_dir(folder: Path) -> Iterator[Path]:
    folder.mkdir()
    before = os.environ.get(DATA_DIR_VARIABLE)
    os.environ[DATA_DIR_VARIABLE] = str(folder)
    try:
        yield folder
    finally:
        os.environ.pop(DATA_DIR_VARIABLE)
        if before is not None:
            os.environ[DATA_DIR_VARIABLE] = before


def _values(suite: Suite, rows: list[Prompt]) -> list[Any]:
    """What the suite's measure makes of a few answers, or of the likelihoods of its choices."""
    if suite.choose is not None:
        return [suite.choose(row, [-float(place) for place in range(len(row.choices))]) for row in rows]
    if suite.measure is None:
        return []
    return [suite.measure.value(row, _response(row, text)) for row in rows for text in (*ANSWERS, row.reference or "")]


def _response(row: Prompt, text: str) -> Response:
    return Response(
        id=row.id, suite=row.suite, modality=row.modality, prompt=row.prompt, image=None, response=text,
        finish_reason="stop", tokens=1, model_key="",
    )  # fmt: skip


def _content(row: Prompt | Example) -> dict[str, Any]:
    """Every field; a picture by its pixels."""
    pixels = None if row.image is None else pixel_key(read_image(row.image))
    return {**row.model_dump(mode="json"), "image": pixels}


def _recipe_output(modality: Modality) -> tuple[list[int], Any]:
    """(versions, examples) of the training recipe on the packaged data, all of it in one modality."""
    settings = recipe.RecipeSettings(
        scans=0.2, retain_scans=0.2, contrast=20, plain=20, magpie=20, truthfulqa=20, probe=8,
        long_refusals=0.2, recovery=0.3, retain_recovery=0.3, recovery_depth=3,
    )  # fmt: skip
    short = [row for row in halves.advbench()[0] if len(row.text) < 80][:24]
    answers = [
        recipe.OwnAnswer(request=row.text, answer="[the answer] in five words", complete=True) for row in short[::2]
    ]
    plain, chat = halves.plain()[0], halves.magpie()[0]
    pools = [[row for row in pool if len(row.text) < 80] for pool in recipe.retain_pools(plain, plain, chat)]
    retain, probe = recipe.retain_examples(recipe.choose_retain(pools, [], settings, 0), settings, 0)
    examples = [*harmful_examples(short, answers, settings, seed=0), *retain, *probe]
    with TemporaryDirectory() as folder:
        rendering = Rendering({modality: 1.0}, {modality: 1.0}, settings, 0, Path(folder))
        rows = rendering.render(with_beginnings(examples, settings, 0))
        if modality is not Modality.TEXT:
            rows += visual_questions(plain, rendering, 12)
        content = [_content(row) for row in rows]
    return [
        recipe.VERSION,
        *([typography.VERSION, shape_scenes.VERSION] if modality is not Modality.TEXT else []),
    ], content


def _typography_output() -> tuple[int, Any]:
    styles = [typography.random_style(random.Random(f"golden/{number}")) for number in range(12)]
    texts = [typography.list_text(f"[heading {number}]") if number % 2 else "[words] " * number for number in range(12)]
    images = [typography.render_text(text, style=style) for text, style in zip(texts, styles, strict=True)]
    return typography.VERSION, [pixel_key(image) for image in images]


OUTPUTS: dict[str, Output] = {
    **{name: partial(suite_output, name) for name in (*SUITES, *UNLISTED, *DRAWN, *CONDITIONS)},
    **{f"recipe, {modality.value}": partial(_recipe_output, modality) for modality in Modality},
    "typography": _typography_output,
}
"""Name → (version, output)."""
