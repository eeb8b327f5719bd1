"""A suite under other conditions: the same words beside a white picture, beside one that does not belong, or alone.

A drop in safety with a picture that says nothing is an effect of the picture being there; without these controls it is
taken for an effect of what the picture shows. A picture suite's own pictures are replaced, or taken away: what is left
is what its words do.
"""

import random
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from PIL import Image

from unsay.data import shapes, typography
from unsay.records import Condition, Modality, Prompt
from unsay.suites.base import Setting, Suite

SIZE = 224
"""Pixels of both kinds of picture, as of all that are drawn here."""


def _blank(_row: Prompt) -> Image.Image:
    return Image.new("RGB", (SIZE, SIZE), "white")


def _unrelated(row: Prompt) -> Image.Image:
    """A scene of coloured shapes, drawn by the request alone."""
    return shapes.draw(shapes.random_scene(random.Random(f"unrelated/{row.group}")))


CONDITIONS: dict[str, tuple[Condition, Callable[[Prompt], Image.Image] | None]] = {
    "blank": (Condition.BLANK, _blank),
    "unrelated": (Condition.UNRELATED, _unrelated),
    "no-image": (Condition.NO_IMAGE, None),
}
"""What stands behind the `+` of a suite's name → the condition, and how its picture is made; None shows nothing."""


def conditions_of(suite: Suite) -> tuple[str, ...]:
    """The conditions under which a suite can be asked, by name; where the picture is the request, nothing is left."""
    if suite.condition is not None or suite.likely or suite.modality is Modality.TYPOGRAPHIC:
        return ()
    return tuple(name for name in CONDITIONS if suite.modality is Modality.IMAGE or name != "no-image")


def under(suite: Suite, name: str) -> Suite:
    """The suite under the condition of that name, as `<suite>+<name>`; one of its `conditions_of`."""
    condition, draw = CONDITIONS[name]

    def prompts(setting: Setting) -> list[Prompt]:
        return [_shown(row, setting.images / changed.name) for row in suite.prompts(setting)]

    def _shown(row: Prompt, folder: Path) -> Prompt:
        path = None
        if draw is not None:
            path = folder / f"{row.id}.png"
            typography.save_png(draw(row), path)
        new = {"id": row.id.replace(suite.name, changed.name, 1), "suite": changed.name, "condition": condition}
        return row.model_copy(update={**new, "image": None if path is None else str(path), "image_type": None})

    changed = replace(
        suite,
        name=f"{suite.name}+{name}",
        title=f"{suite.title}, {condition}",
        prompts=prompts,
        condition=condition,
        twin=None,
        harm_in_picture=False,
    )
    return changed
