"""Is an answer about what was asked? How much likelier the request makes it, to a frozen language model.

    gain = mean log p(answer | request) - mean log p(answer | an answer begins)        nats a token, first tokens only

the pointwise mutual information of request and answer, per token. An answer to the question is likelier with it than
without; sentences about something else are *less* likely after a question that they ignore. How the two lie apart is
measured in `docs/judges.md`; only the clear cases are called unrelated.
"""

import re
from typing import Final

from unsay.judging.language import WORDS
from unsay.records import Modality, Prompt

LEAST_GAIN: Final = -0.2
"""Nats a token; below it an answer ignores the request."""

FEWEST_WORDS: Final = 4
"""Shorter requests may be answered by anything."""

STEM: Final = 4
"""Words are the same by their first so many letters ("bread", "breads"); shorter words count nowhere."""

_WORD = re.compile(r"[^\W\d_]+")


def measurable(prompt: Prompt, answer: str) -> bool:
    """Whether the gain would say something.

    Not where the request is not all that was asked: a picture or an earlier turn may be what the answer is about. And
    where the answer takes up a word of the request, nothing needs to be measured: it is about that.
    """
    words = _WORD.findall(prompt.request)
    if prompt.modality is Modality.IMAGE or prompt.turns or len(words) < FEWEST_WORDS:
        return False
    return not takes_up(prompt.request, answer)


def takes_up(request: str, answer: str) -> bool:
    """Whether an answer holds a word of the request that is no function word."""
    return bool(_stems(request) & _stems(answer))


def _stems(text: str) -> set[str]:
    words = (word.lower() for word in _WORD.findall(text))
    return {word[:STEM] for word in words if len(word) >= STEM and word not in WORDS["English"]}
