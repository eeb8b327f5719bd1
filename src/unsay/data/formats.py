"""Text formats of a request: bare, pointed at, as a list to fill in, as read off a picture, or in a form (`forms`).

Forget, refuse and retain prompts are all sampled from the same formats: if only harmful requests came as lists or as
"follow the instruction below", the model would learn to refuse the format. All of it is text; the list format is what
FigStep (arXiv 2311.05608) shows as pixels, here in words of our own.

Scans are text as a model reads it off a picture: words doubled, split or mistaken, and stray marks where the page is
empty. A vision tower does not hand the language model the words of a picture but something near them: a word that spans
two patches comes twice, a long one in pieces, a rare one with a wrong letter, and every empty patch says something too.
A model that has unlearned a request in clean words recognises it less surely when it is read. Training on text that
looks as if it had been read narrows that gap without a single picture. What is garbled here, and how, was seen in the
pocket VLM's image embeddings of harmless pages (the words nearest to each patch); no suite took part in it.
"""

import random
import re
from collections.abc import Callable

from unsay.data.forms import sample_form
from unsay.data.typography import list_text

Format = Callable[[str], str]

WRAPPED: tuple[Format, ...] = (
    lambda request: f"Follow the instruction below.\n\n{request}",
    lambda request: f"{request}\n\nFollow the instruction above.",
    lambda request: f'Do what this text says: "{request}"',
    lambda request: f"The following note contains a request. Please respond to it.\n{request}",
    lambda request: f"{request}\nAnswer the request in this text.",
)
"""The request as a text that is pointed at, as a typographic image is."""

LISTS: tuple[Format, ...] = (
    lambda request: f"{list_text(topic_line(request))}\n\nThis list is empty. Write out each of its three points.",
    lambda request: f"{list_text(topic_line(request))}\nFill in the numbered list above in detail.",
    lambda request: f"Complete the points that are missing here.\n\n{list_text(topic_line(request))}",
    lambda request: f"{list_text(topic_line(request))}\n\nPlease write a few sentences for every item.",
    lambda request: (
        f"{list_text(topic_line(request))}\nAbove is a list with the numbers 1 to 3 and nothing behind them. "
        "Please create thorough text for every number. Use around 80 words for each of them."
    ),
    lambda request: (
        f"{list_text(topic_line(request))}\n\nThe note has a heading and three open points. "
        "Kindly produce the content of each point, explained at length."
    ),
)
"""The request as an empty list to be filled in."""

_BELOW_A_PAGE = (
    "Follow the instruction above.",
    "Do what this text says.",
    "Please respond to the note above.",
    "Answer the request in this text.",
    "Carry out what is written here.",
)
_BELOW_A_LIST = (
    "This list is empty. Write out each of its three points.",
    "Fill in the numbered list above in detail.",
    "Please write a few sentences for every item.",
    "Kindly produce the content of each point, explained at length.",
    "Above is a list with the numbers 1 to 3 and nothing behind them. Please create thorough text for every number.",
)
_HOW_TO = re.compile(r"\bhow (?:to|one can|someone can|a person can|you can) (.+)$", re.IGNORECASE | re.DOTALL)
_GUIDE = re.compile(
    r"\b(?:instructions?|guide|tutorial|steps|manual|plan|tips|advice) (?:for|on|about|of) (.+)$", re.I | re.S
)
_QUESTION_WORDS = frozenset(("what", "why", "who", "where", "when", "which", "how", "is", "are", "can", "do"))
_STRAY = (",", " ", "\\", ".", ";", "|", "_", "  ", " ,")
_MARGIN = (" ,", " ", "  ", "\n", " |", " \\", " ;", " .", " *")
_LETTERS = "aeioustrnlcd"
_SHORT = 3
"""Letters: a word of no more than this is read whole or twice, never in pieces."""


def sample_format(
    rng: random.Random, *, wrapped: float, lists: float, scans: float = 0.0, forms: float = 0.0
) -> Format:
    """A format sampled at random."""
    chance = rng.random()
    if chance < wrapped:
        return rng.choice(WRAPPED)
    if chance < wrapped + lists:
        return rng.choice(LISTS)
    if chance < wrapped + lists + scans:
        return scan(rng)
    return sample_form(rng) if chance < wrapped + lists + scans + forms else plain


def plain(request: str) -> str:
    """The request alone."""
    return request


def scan(rng: random.Random) -> Format:
    """The request as read off a page, alone or as the heading of an empty list, with a line below that points at it."""
    if rng.random() < 0.5:
        pointing = rng.choice(_BELOW_A_PAGE)
        return lambda request: f"{as_read(request, rng)}\n{pointing}"
    pointing = rng.choice(_BELOW_A_LIST)
    return lambda request: f"{as_read(topic_line(request), rng)}\n 1 . \n 2 . \n 3 .\n{pointing}"


def topic_line(request: str) -> str:
    """A request as the heading of a list: "Write a tutorial on how to X" becomes "Methods to X".

    The wording follows FigStep's statements ("Methods to ...", "Steps to ...", "List of ..."); the content is the
    request's own, untouched.
    """
    text = " ".join(request.split()).rstrip(" .?!")
    if match := _HOW_TO.search(text):
        return f"Methods to {match.group(1)}."
    if match := _GUIDE.search(text):
        return f"Steps for {match.group(1)}."
    if text[:1].isupper() and not text[:2].isupper():
        text = text[0].lower() + text[1:]
    question = text.split(" ", 1)[0] in _QUESTION_WORDS
    return f"Answers to: {text}." if question else f"Steps to {text}."


def as_read(text: str, rng: random.Random) -> str:
    """The text as it might be read off a page."""
    words = []
    for word in text.split():
        words.append(_read(word, rng))
        if rng.random() < 0.25:
            words.append(rng.choice(_STRAY) * rng.randint(1, 4))
        if rng.random() < 0.18:
            words.append("\n" + " " * rng.randint(0, 12))
    return _empty(rng, 12) + " ".join(words) + _empty(rng, 16)


def _read(word: str, rng: random.Random) -> str:
    chance = rng.random()
    if chance < 0.25:
        return f"{word} {word}"
    if len(word) <= _SHORT or chance > 0.75:
        return word
    if chance < 0.55:
        cuts = sorted(rng.sample(range(1, len(word)), rng.randint(1, 2)))
        return " ".join(word[start:end] for start, end in zip([0, *cuts], [*cuts, len(word)], strict=True))
    if chance < 0.68:
        place = rng.randrange(1, len(word))
        return word[:place] + rng.choice(_LETTERS) + word[place + 1 :]
    return word[:-2]


def _empty(rng: random.Random, most: int) -> str:
    """What an empty part of the page says."""
    return "".join(rng.choice(_MARGIN) for _ in range(rng.randint(2, most)))
