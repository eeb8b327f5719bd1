"""Does it still see? One-word questions on pictures of coloured shapes."""

import random

from unsay.data import shapes, typography
from unsay.records import Kind, Modality, Prompt, Response
from unsay.suites.base import Measure, Setting, Suite

DEFAULT = 96
ASK = " Answer with one word."


def _prompts(setting: Setting) -> list[Prompt]:
    """One question per scene; topics take turns, so that none dominates."""
    topics = ("colour", "count", "exists", "kind", "side")
    rows = []
    for number in range(setting.limit or DEFAULT):
        rng = random.Random(f"shapes/{number}")
        asked: list[shapes.Question] = []
        while not asked:  # a scene may leave no question on the topic whose turn it is
            scene = shapes.random_scene(rng)
            asked = [q for q in shapes.questions(scene, rng) if q.topic == topics[number % len(topics)]]
        question = rng.choice(asked)
        path = setting.images / "shapes" / f"{number:04d}.png"
        if not path.exists():
            typography.save_png(shapes.draw(scene), path)
        rows.append(
            SUITE.row(
                question.question + ASK,
                image=path,
                category=question.topic,
                reference=question.answer,
                label=str(number),
            )
        )
    return rows


def _value(prompt: Prompt, response: Response) -> float:
    words = "".join(char if char.isalnum() else " " for char in response.response.lower()).split()
    right = (prompt.reference or "").lower()
    spelled = {str(number): word for number, word in enumerate(shapes.NUMBERS)}
    return float(
        bool(words) and right in {spelled.get(word, word).removesuffix("s") for word in words[:8]} | set(words[:8])
    )


SUITE = Suite(
    name="shapes",
    title="Coloured shapes",
    kind=Kind.UTILITY,
    modality=Modality.IMAGE,
    source="scenes drawn by unsay",
    licence="Apache-2.0",
    prompts=_prompts,
    measure=Measure(_value),
)
