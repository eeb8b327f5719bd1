"""Training examples in the modality that is asked for: the same requests, in words, as pixels or beside a picture.

Modality is a property of the data. Methods and the trainer know nothing of it, so that multimodal unlearning and
multimodal fine-tuning are the text-only methods with other examples: same requests, same answers, same ids and, through
the ids, the same place in the same batches.
"""

import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BeforeValidator, NonNegativeFloat

from unsay.data import drawn, shapes, typography
from unsay.data.recipe import RecipeSettings
from unsay.data.splits import request_of
from unsay.errors import UserError
from unsay.files import content_key
from unsay.records import Example, Modality, Role, SourceRow


def _known(value: Any) -> Any:
    """One line that says what is allowed, in place of one complaint per kind of value."""
    names = [modality.value for modality in Modality]
    says = f"must be {', '.join(names)}, or shares of them such as {{text: 0.5, typographic: 0.5}}"
    if isinstance(value, str):
        if value not in names:
            raise ValueError(says)
        return value
    if not isinstance(value, Mapping) or not value or any(key not in names for key in value):
        raise ValueError(says)
    if all(share == 0 for share in value.values()):
        raise ValueError("every share is 0")
    return value


Mixture = Annotated[Modality | dict[Modality, NonNegativeFloat], BeforeValidator(_known)]
"""A modality, or shares of several; shares need not add up to 1."""


def shares(mixture: Modality | Mapping[Modality, float]) -> dict[Modality, float]:
    """The share of every modality in it, adding up to 1; those without a share are left out."""
    if isinstance(mixture, Modality):
        return {mixture: 1.0}
    total = sum(mixture.values())
    return {modality: mixture[modality] / total for modality in Modality if mixture.get(modality)}


@dataclass(frozen=True)
class Rendering:
    """How examples are put into modalities.

    Attributes:
        harmful: shares for forget and refuse examples, adding up to 1.
        retain: shares for retain examples.
        settings: how many drawn requests are lists.
        seed: of every draw.
        folder: where the pictures go.
    """

    harmful: Mapping[Modality, float]
    retain: Mapping[Modality, float]
    settings: RecipeSettings
    seed: int
    folder: Path

    @property
    def pictured(self) -> float:
        """Share of retain examples that have a picture."""
        return 1 - self.retain.get(Modality.TEXT, 0.0)

    def render(self, examples: Sequence[Example]) -> list[Example]:
        """The examples, in order, in their modalities; one that has a picture already keeps it.

        A text example is not changed in anything. The modality of an example is drawn by its id alone.

        Raises:
            UserError: a request is too long to be drawn, or a picture cannot be written.
        """
        return [example if example.image is not None else self._rendered(example) for example in examples]

    def _rendered(self, example: Example) -> Example:
        rng = random.Random(f"{self.seed}/modality/{example.id}")
        mixture = self.retain if example.role is Role.RETAIN else self.harmful
        modality = rng.choices(list(mixture), list(mixture.values()))[0]
        if modality is Modality.TEXT:
            return example
        if modality is Modality.IMAGE:
            return _with_picture(example, example.prompt, shapes.draw(drawn.training_scene(rng)), self.folder)
        lists = self.settings.retain_lists if example.role is Role.RETAIN else self.settings.lists
        request = request_of(example)
        try:
            words, image = drawn.drawn_request(request, rng, as_list=rng.random() < lists)
        except UserError as error:
            raise UserError(f"example {example.id}: {error}") from None
        return _with_picture(example, words, image, self.folder)


def visual_questions(texts: Sequence[SourceRow], rendering: Rendering, count: int) -> list[Example]:
    """Retain examples that ask about the picture itself: what it says, or what it shows, with the exact answer.

    What it says where retain prompts are typographic, what it shows where they stand beside pictures; in proportion
    where they are both.

    Args:
        texts: benign rows of the training side; their texts are what is read.
        rendering: shares, seed and folder.
        count: how many, at most: no text is read twice.
    """
    mixture = rendering.retain
    readings = round(count * mixture.get(Modality.TYPOGRAPHIC, 0.0) / rendering.pictured) if count else 0
    rows = [row for row in texts if len(row.text) <= LONGEST_READING]
    random.Random(f"{rendering.seed}/readings").shuffle(rows)
    made = []
    for row in rows[:readings]:
        rng = random.Random(f"{rendering.seed}/reading/{row.text}")
        words, image = drawn.drawn_reading(row.text, rng)
        made.append(_with_picture(_question("reading", words, row.text, row.text), words, image, rendering.folder))
    for number in range(count - readings):
        rng = random.Random(f"{rendering.seed}/scene/{number}")
        scene = drawn.training_scene(rng)
        asked, answer = drawn.scene_question(scene, rng)
        example = _question("shapes", asked, answer, asked, label=str(number))
        made.append(_with_picture(example, asked, shapes.draw(scene), rendering.folder))
    return made


LONGEST_READING = 70
"""Characters of a text that is to be read out."""

VISUAL = ("reading", "shapes")
"""Sources of visual questions."""


def _question(source: str, prompt: str, answer: str, request: str, label: str = "") -> Example:
    return Example(
        id=f"{Role.RETAIN.value}-{content_key(source, request, answer, label)[:12]}",
        role=Role.RETAIN,
        prompt=prompt,
        answer=answer,
        source=source,
        request=request,
    )


def _with_picture(example: Example, words: str, image: Any, folder: Path) -> Example:
    path = folder / f"{content_key(example.id)}.png"
    typography.save_png(image, path)
    return example.model_copy(update={"prompt": words, "image": str(path), "request": request_of(example)})
