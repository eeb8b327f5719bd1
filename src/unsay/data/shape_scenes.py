"""Coloured shapes on a plain ground, with questions whose answers are one word: sight, not reading."""

import math
import random
from collections import Counter
from dataclasses import dataclass
from typing import NamedTuple

from PIL import Image, ImageDraw

VERSION = 1
"""Of scenes and questions: raised by hand when the same seed gives others."""

KINDS = ("circle", "square", "triangle", "star", "diamond", "cross")
"""What a shape may be."""

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (220, 30, 30),
    "green": (30, 160, 50),
    "blue": (35, 70, 215),
    "yellow": (245, 215, 30),
    "orange": (250, 135, 15),
    "purple": (135, 40, 165),
    "pink": (250, 135, 190),
    "brown": (125, 75, 35),
    "black": (15, 15, 15),
}
"""The colours a shape may have, by the name that answers use."""

NUMBERS = ("zero", "one", "two", "three", "four", "five", "six")

GROUNDS = ((255, 255, 255), (240, 240, 240), (225, 232, 240), (245, 238, 225), (205, 205, 205))
"""Colours of the background: pale, so that every shape stands out."""


@dataclass(frozen=True)
class Shape:
    """One shape: what it is, its colour by name, the centre and the radius as fractions of the picture."""

    kind: str
    colour: str
    x: float
    y: float
    radius: float


@dataclass(frozen=True)
class ShapeScene:
    """Shapes that do not overlap, on a plain ground."""

    shapes: tuple[Shape, ...]
    ground: tuple[int, int, int] = (255, 255, 255)


class Question(NamedTuple):
    """A question about a scene, with its one-word answer."""

    question: str
    answer: str
    topic: str
    """What it tests: `colour`, `count`, `exists`, `kind` or `side`."""


def random_scene(rng: random.Random, *, most: int = 5) -> ShapeScene:
    """One to `most` shapes in random colours, sizes and places, none touching another.

    Half of the scenes repeat one kind on purpose, so that counting has to go beyond one.
    """
    number = rng.randint(1, most)
    kinds = [rng.choice(KINDS) for _ in range(number)]
    if number > 1 and rng.random() < 0.5:
        repeated = rng.choice(KINDS)
        for index in rng.sample(range(number), rng.randint(2, number)):
            kinds[index] = repeated
    largest = {1: 0.38, 2: 0.24, 3: 0.19}.get(number, 0.15)
    shapes: list[Shape] = []
    for kind in kinds:
        for _ in range(200):
            radius = rng.uniform(0.09, largest)
            x, y = rng.uniform(radius, 1 - radius), rng.uniform(radius, 1 - radius)
            if all(math.hypot(x - other.x, y - other.y) > 1.1 * (radius + other.radius) for other in shapes):
                shapes.append(Shape(kind, rng.choice(list(COLOURS)), x, y, radius))
                break
    return ShapeScene(tuple(shapes), rng.choice(GROUNDS))


def render_scene(scene: ShapeScene, *, size: int = 224) -> Image.Image:
    """Render a scene as a `size` × `size` RGB picture with smooth edges."""
    fine = 2 * size  # drawn at twice the size and halved: Pillow's own outlines are jagged
    image = Image.new("RGB", (fine, fine), scene.ground)
    pen = ImageDraw.Draw(image)
    for shape in scene.shapes:
        x, y, radius = shape.x * fine, shape.y * fine, shape.radius * fine
        if shape.kind == "circle":
            pen.ellipse((x - radius, y - radius, x + radius, y + radius), fill=COLOURS[shape.colour])
        else:
            outline = [(x + radius * across, y + radius * down) for across, down in _OUTLINES[shape.kind]]
            pen.polygon(outline, fill=COLOURS[shape.colour])
    return image.reduce(2)


def questions(scene: ShapeScene, rng: random.Random | None = None) -> list[Question]:
    """Every question that has exactly one right answer in this scene."""
    kinds = Counter(shape.kind for shape in scene.shapes)
    colours = Counter(shape.colour for shape in scene.shapes)
    pairs = Counter((shape.colour, shape.kind) for shape in scene.shapes)
    listed: list[Question] = []
    for kind, number in kinds.items():
        listed.append(Question(f"How many {plural(kind)} are there?", NUMBERS[number], "count"))
    listed.append(Question("How many shapes are there?", NUMBERS[len(scene.shapes)], "count"))
    for shape in scene.shapes:
        if kinds[shape.kind] == 1:
            listed.append(Question(f"What color is the {shape.kind}?", shape.colour, "colour"))
            if len(scene.shapes) > 1 and abs(shape.x - 0.5) > 0.12:
                side = "left" if shape.x < 0.5 else "right"
                listed.append(Question(f"Is the {shape.kind} on the left or on the right?", side, "side"))
        if colours[shape.colour] == 1:
            listed.append(Question(f"What shape is {shape.colour}?", shape.kind, "kind"))
    for colour, kind in pairs:
        listed.append(Question(f"Is there {_article(colour)} {colour} {kind}?", "yes", "exists"))
    colour, kind = _absent(pairs, rng)
    listed.append(Question(f"Is there {_article(colour)} {colour} {kind}?", "no", "exists"))
    return listed


def plural(kind: str) -> str:
    """`circle` → `circles`, `cross` → `crosses`."""
    return f"{kind}es" if kind.endswith("s") else f"{kind}s"


def _absent(pairs: Counter[tuple[str, str]], rng: random.Random | None) -> tuple[str, str]:
    """A colour and a kind that never occur together here, though one of them may."""
    absent = [(colour, kind) for colour in COLOURS for kind in KINDS if (colour, kind) not in pairs]
    return rng.choice(absent) if rng else absent[0]


def _article(word: str) -> str:
    return "an" if word[0] in "aeiou" else "a"


def _star() -> list[tuple[float, float]]:
    tips = []
    for index in range(10):
        reach = 1.0 if index % 2 == 0 else 0.42
        angle = math.pi * (index / 5 - 0.5)
        tips.append((reach * math.cos(angle), reach * math.sin(angle)))
    return tips


_ARM = 0.32  # half the width of a cross's arm
_OUTLINES: dict[str, list[tuple[float, float]]] = {
    "square": [(-0.8, -0.8), (0.8, -0.8), (0.8, 0.8), (-0.8, 0.8)],
    "triangle": [(0, -1), (0.9, 0.75), (-0.9, 0.75)],
    "diamond": [(0, -1), (0.75, 0), (0, 1), (-0.75, 0)],
    "star": _star(),
    "cross": [
        (-_ARM, -1), (_ARM, -1), (_ARM, -_ARM), (1, -_ARM), (1, _ARM), (_ARM, _ARM),
        (_ARM, 1), (-_ARM, 1), (-_ARM, _ARM), (-1, _ARM), (-1, -_ARM), (-_ARM, -_ARM),
    ],
}  # fmt: skip
