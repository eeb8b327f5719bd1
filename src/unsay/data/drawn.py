"""Training requests as pictures: letters on coloured paper, lists to fill in, scenes beside the words.

Kept apart from what evaluation shows (`suites/drawing.py`, `suites/transcription.py`, `suites/shapes.py`, and FigStep's
own): none of its wordings beside a picture, no numbered list of three and none of FigStep's headings, no black letters
on white and no near-white paper, no scene of one or two shapes. What transfers from here to a suite is then the
request and the way it comes, not one prompt or one look.
"""

import random
from dataclasses import replace

from PIL import Image

from unsay.data import shapes, typography
from unsay.data.formats import topic_line

LONGEST = 120
"""Characters of a request that is drawn: more do not stand in readable letters on 224 pixels."""

PALEST = 224
"""Largest value of a colour's darkest channel on training paper; the suites' papers begin at 225."""

PLAIN_FACES = ("DejaVuSans", "DejaVuSans-Bold")
"""Faces that the pocket VLM reads (15 to 25 % of characters wrong, dark on pale); in most others it loses most."""

PLAIN_SHARE = 0.6
"""Share of pictures that it can read; the rest has any face, any two colours that stand apart and any place."""

FOLLOW = (
    "Please respond to what is written in this picture.",
    "Reply to the message that this picture shows.",
    "The picture is a note to you. What is your reply?",
    "Read the words here and do what they ask.",
    "Someone wrote this down for you. Give your answer.",
)
"""Words beside a request drawn as it is."""

COMPLETE = (
    "The picture has a heading with open points under it. Write out every point.",
    "Somebody began these notes and left the points blank. Finish the notes.",
    "Continue what the picture begins: one paragraph for each open point.",
    "Below the heading nothing is filled in yet. Please add what belongs there.",
)
"""Words beside a request drawn as the heading of an empty list."""

HEADINGS = {"Methods to ": "Ways to ", "Steps for ": "Notes on ", "Steps to ": "How to ", "Answers to: ": "Topic: "}
"""Beginnings of FigStep's headings → those of training pictures."""

MARKS: tuple[tuple[str, ...], ...] = (
    ("-",) * 4,
    ("a)", "b)", "c)", "d)"),
    ("*",) * 2,
    ("(i)", "(ii)"),
    ("1)", "2)", "3)", "4)", "5)"),
)
"""Marks of the open points."""

READ = (
    "Which words stand in this picture?",
    "Copy out what is written here.",
    "Spell out the writing that you see.",
)
"""Questions whose answer is the drawn text itself."""

LEAST_SHAPES = 3
"""Shapes in a training scene at the least; the utility suite's scenes have one or two."""


def drawn_request(request: str, rng: random.Random, *, as_list: bool) -> tuple[str, Image.Image]:
    """The words beside the picture, and the request as a picture.

    Args:
        request: the bare request.
        rng: the only source of chance.
        as_list: as the heading of an empty list (FigStep's idea, arXiv 2311.05608) instead of as it is.

    Raises:
        UserError: the request does not fit on a picture.
    """
    text = list_text(request, rng) if as_list else request
    words = rng.choice(COMPLETE if as_list else FOLLOW)
    return words, typography.render_text(text, style=training_style(rng))


def drawn_reading(text: str, rng: random.Random) -> tuple[str, Image.Image]:
    """A question for the text itself, and the text as a picture.

    Raises:
        UserError: the text does not fit on a picture.
    """
    return rng.choice(READ), typography.render_text(text, style=training_style(rng))


def list_text(request: str, rng: random.Random) -> str:
    """The request as a heading above open points."""
    heading = topic_line(request)
    for theirs, ours in HEADINGS.items():
        if heading.startswith(theirs):
            heading = ours + heading.removeprefix(theirs)
            break
    return "\n".join([heading, *rng.choice(MARKS)])


def training_style(rng: random.Random) -> typography.Style:
    """Often dark letters of a plain face on coloured paper, near the top left; else any face, colour and place."""
    if rng.random() < PLAIN_SHARE:
        return typography.Style(
            font=rng.choice(PLAIN_FACES),
            size=rng.randint(14, 24),
            ink=_colour(rng, 0, 50),
            paper=_colour(rng, 170, PALEST),
            margin=rng.randint(4, 12),
            across=0.3 * rng.random(),
            down=0.3 * rng.random(),
        )
    style = typography.random_style(rng)
    while min(style.paper) > PALEST:
        style = typography.random_style(rng)
    return replace(style, size=rng.randint(13, 26))


def training_scene(rng: random.Random) -> shapes.ShapeScene:
    """Three to five shapes."""
    scene = shapes.random_scene(rng)
    while len(scene.shapes) < LEAST_SHAPES:
        scene = shapes.random_scene(rng)
    return scene


def scene_question(scene: shapes.ShapeScene, rng: random.Random) -> tuple[str, str]:
    """A question with one right answer about the scene, in words that no suite uses, and that answer."""
    asked = rng.choice(shapes.questions(scene, rng))
    return _reworded(asked, rng), asked.answer


def _reworded(asked: shapes.Question, rng: random.Random) -> str:
    """The same question as `shapes.questions` puts it, put otherwise."""
    words = asked.question.rstrip("?").split()
    match asked.topic:
        case "colour":  # What color is the KIND?
            return rng.choice((f"Name the color of the {words[-1]}.", f"The {words[-1]} here has which color?"))
        case "count":  # How many KINDS are there?
            return rng.choice((f"Count the {words[2]}.", f"Say the number of {words[2]} in this picture."))
        case "kind":  # What shape is COLOUR?
            return rng.choice((f"Name the {words[-1]} shape.", f"Which shape did somebody paint {words[-1]}?"))
        case "side":  # Is the KIND on the left or on the right?
            return rng.choice((f"Left or right: where does the {words[2]} stand?", f"On which side is the {words[2]}?"))
        case _:  # Is there a COLOUR KIND?
            thing = " ".join(words[2:])
            return rng.choice((f"Can you find {thing} here?", f"Does this picture have {thing} in it?"))


def _colour(rng: random.Random, darkest: int, palest: int) -> typography.Colour:
    return rng.randint(darkest, palest), rng.randint(darkest, palest), rng.randint(darkest, palest)
