"""From the rows of a published file to the prompts of a suite."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from unsay.data import typography
from unsay.data.splits import prompt_key
from unsay.records import Condition, Prompt, Turn
from unsay.suites.base import Setting, Suite, sample_units


@dataclass(frozen=True)
class Item:
    """One row of a published set, before it is sampled.

    Attributes:
        text: what the model is given in words.
        request: what is asked, if that is not the text itself.
        category: of harm, or of the question; limits are stratified by it.
        image: gives the picture's path; called only for rows that are asked, for it may fetch the picture.
        draw: makes the picture; called only for rows that are asked.
        image_type: what kind of picture it is, where a set has several.
        condition: what its picture is, where that is not the suite's: a set may hold pictures that say nothing.
        key: what tells rows of one request apart.
        label: what tells requests of equal words apart, for instance the picture that they are about.
        cluster: what its answer rises and falls with, where that is more than its own request.
        unit: rows of one unit are asked together or not at all.
        system: a system prompt of its own.
        turns: the conversation before it.
        reference: the right answer.
        choices: the possible answers.
        answers: all right answers.
        context: what the request speaks of, where that is a text of its own.
    """

    text: str
    request: str | None = None
    category: str | None = None
    image: Callable[[], Path] | None = None
    draw: Callable[[], Image.Image] | None = None
    image_type: str | None = None
    condition: Condition | None = None
    key: str = ""
    label: str = ""
    cluster: str = ""
    unit: str = ""
    system: str | None = None
    turns: tuple[Turn, ...] = ()
    reference: str | None = None
    choices: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()
    context: str | None = None


def listed(suite: Suite, items: Sequence[Item], setting: Setting) -> list[Prompt]:
    """The prompts of a suite: all rows, or a stratified part of them; rows that stand twice in the file stay two.

    Args:
        suite: whose they are.
        items: in the file's order.
        setting: the limit, and where drawn pictures go.
    """
    seen: Counter[tuple[str, ...]] = Counter()
    keys = []
    for item in items:
        same = (item.text, item.request or "", item.label, item.key)
        seen[same] += 1
        keys.append(item.key if seen[same] == 1 else f"{item.key}#{seen[same]}")
    units = [
        item.unit or "\0".join((item.request or item.text, item.text, item.label, keys[n]))
        for n, item in enumerate(items)
    ]
    chosen = sample_units(units, setting.limit, [item.category for item in items])
    return [_prompt(suite, items[index], keys[index], setting) for index in chosen]


def _prompt(suite: Suite, item: Item, key: str, setting: Setting) -> Prompt:
    row = suite.row(
        item.text,
        request=item.request,
        image=None if item.image is None else item.image(),
        category=item.category,
        reference=item.reference,
        label=item.label,
        key=key,
        system=item.system,
        turns=item.turns,
        image_type=item.image_type,
        choices=item.choices,
        answers=item.answers,
        context=item.context,
    )
    changed: dict[str, str] = {}
    if item.condition is not None:
        changed["condition"] = item.condition
    if item.cluster:
        changed["group"] = prompt_key(item.cluster)
    if item.draw is not None:
        path = setting.images / suite.name / f"{row.id}.png"
        typography.save_png(item.draw(), path)
        changed["image"] = str(path)
    return row.model_copy(update=changed)
