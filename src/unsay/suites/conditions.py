"""One text suite under other conditions: the same words beside a white picture, or beside one that does not belong.

A drop in safety with a picture that says nothing is an effect of the picture being there; without these controls it is
taken for an effect of what the picture shows.
"""

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from PIL import Image

from unsay.data import shapes, typography
from unsay.records import Condition, Prompt
from unsay.suites.base import Setting, Suite

SIZE = 224
"""Pixels of both kinds of picture, as of all that are drawn here."""


def _blank(_row: Prompt) -> Image.Image:
    return Image.new("RGB", (SIZE, SIZE), "white")


def _unrelated(row: Prompt) -> Image.Image:
    """A scene of coloured shapes, drawn by the request alone."""
    return shapes.draw(shapes.random_scene(random.Random(f"unrelated/{row.group}")))


CONDITIONS: dict[str, tuple[Condition, Callable[[Prompt], Image.Image]]] = {
    "blank": (Condition.BLANK, _blank),
    "unrelated": (Condition.UNRELATED, _unrelated),
}
"""What stands behind the `+` of a suite's name → the condition, and how its picture is made."""


def under(suite: Suite, name: str) -> Suite:
    """The suite under the condition of that name, as `<suite>+<name>`; a key of `CONDITIONS`."""
    condition, draw = CONDITIONS[name]

    def prompts(setting: Setting) -> list[Prompt]:
        return [_shown(row, draw, setting.images / changed.name) for row in suite.prompts(setting)]

    def _shown(row: Prompt, draw: Callable[[Prompt], Image.Image], folder: Path) -> Prompt:
        path = folder / f"{row.id}.png"
        typography.save_png(draw(row), path)
        new = row.id.replace(suite.name, changed.name, 1)
        return row.model_copy(update={"id": new, "suite": changed.name, "image": str(path), "condition": condition})

    changed = replace(
        suite,
        name=f"{suite.name}+{name}",
        title=f"{suite.title}, {condition}",
        prompts=prompts,
        condition=condition,
        twin=None,
    )
    return changed
