"""Does it still see? One-word questions on pictures of one or two coloured shapes.

The scenes are the easy end of what `unsay.data.shape_scenes` can draw, in the wordings that the pocket VLM was taught:
a suite that watches for loss needs a model that is mostly right to begin with.
"""

import random
from functools import partial

from unsay.data import shape_scenes, typography
from unsay.data.shape_scenes import Question, Shape, ShapeScene
from unsay.records import Kind, Modality, Prompt, Response
from unsay.suites.base import Item, Measure, Setting, Suite

SCENES = 96
TOPICS = ("colour", "exists", "count")
KINDS = ("circle", "square", "triangle")
COLOURS = ("red", "green", "blue", "yellow")
PLACES = ((0.3, 0.3), (0.7, 0.7))
RADIUS = 0.2


def build(seed: str, suite: Suite, setting: Setting) -> list[Prompt]:
    """One question per scene; topics take turns, so that none dominates."""
    rows = []
    for number in range(SCENES if setting.limit is None else min(setting.limit, SCENES)):
        rng = random.Random(f"{seed}/{number}")
        scene = _scene(rng)
        question = _question(scene, TOPICS[number % len(TOPICS)], rng)
        path = setting.images / suite.name / f"{number:04d}.png"
        if not path.exists():
            typography.save_png(shape_scenes.render_scene(scene), path)
        item = Item(question.question, category=question.topic, reference=question.answer, label=str(number))
        rows.append(suite.row(item, path))
    return rows


def _scene(rng: random.Random) -> ShapeScene:
    """One shape in the middle, or two of different kinds on the diagonal."""
    kinds = rng.sample(KINDS, rng.randint(1, 2))
    places = PLACES if len(kinds) == 2 else ((0.5, 0.5),)
    shapes = [Shape(kind, rng.choice(COLOURS), x, y, RADIUS) for kind, (x, y) in zip(kinds, places, strict=True)]
    return ShapeScene(tuple(shapes))


def _question(scene: ShapeScene, topic: str, rng: random.Random) -> Question:
    """The topic's question; half of the `exists` questions are about something that is there."""
    questions = [question for question in shape_scenes.questions(scene, rng) if question.topic == topic]
    if topic == "count":
        return next(question for question in questions if question.question == "How many shapes are there?")
    if topic == "exists":
        answer = rng.choice(("yes", "no"))
        questions = [question for question in questions if question.answer == answer]
    return rng.choice(questions)


def first_word_is_right(answer: str, right: str) -> bool:
    """Whether the first word of an answer is the right one; digits count as number words."""
    words = "".join(char if char.isalnum() else " " for char in answer.lower()).split()
    numbers = {str(number): word for number, word in enumerate(shape_scenes.NUMBERS)}
    return bool(words) and numbers.get(words[0], words[0]) == right.lower()


def _value(prompt: Prompt, response: Response) -> float:
    return float(first_word_is_right(response.response, prompt.reference or ""))


SUITE = Suite(
    name="shapes",
    title="Coloured shapes",
    kind=Kind.UTILITY,
    modality=Modality.IMAGE,
    source="scenes drawn by unsay",
    licence="Apache-2.0",
    build=partial(build, "shapes"),
    size=SCENES,
    by_category=True,
    measure=Measure(_value),
)
