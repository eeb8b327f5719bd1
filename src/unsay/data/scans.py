"""Text as a model reads it off a picture: words doubled, split or mistaken, and stray marks where the page is empty.

A vision tower does not hand the language model the words of a picture but something near them: a word that spans two
patches comes twice, a long one in pieces, a rare one with a wrong letter, and every empty patch says something too. A
model that has unlearned a request in clean words recognises it less surely when it is read. Training on text that looks
as if it had been read narrows that gap without a single picture. What is garbled here, and how, was seen in the pocket
VLM's image embeddings of harmless pages (the words nearest to each patch); no suite took part in it.
"""

import random

_STRAY = (",", " ", "\\", ".", ";", "|", "_", "  ", " ,")
_MARGIN = (" ,", " ", "  ", "\n", " |", " \\", " ;", " .", " *")
_LETTERS = "aeioustrnlcd"
_SHORT = 3
"""Letters: a word of no more than this is read whole or twice, never in pieces."""


def as_read(text: str, rng: random.Random) -> str:
    """The text as it might be read off a page.

    Args:
        text: any text; its line breaks are not kept.
        rng: the only source of chance.
    """
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
