"""Multiple choice: the letter that an answer names, and scores from the likelihood of the choices."""

import math
import re
from collections.abc import Sequence

from unsay.records import Prompt, Response

LETTERS = "ABCDEFGHIJ"
_FIRST = re.compile(r"^\(?([A-J])(?:[).:,]|\s*$|\s+(?=is\b))")
_SAID = re.compile(r"\b[Aa]nswer(?: is)?:?\s*\(?([A-J])\b")


def chosen_letter(said: str, choices: Sequence[str]) -> str | None:
    """The letter that an answer names, or None: ScienceQA counts an answer without one as wrong.

    Read in this order: a letter that begins the answer (`B`, `(B)`, `B.`), `the answer is B`, or the words of exactly
    one choice.

    Args:
        said: the answer.
        choices: the words of the choices, in the order of their letters.
    """
    text = said.strip()
    letters = LETTERS[: len(choices)]
    for pattern in (_FIRST, _SAID):
        found = pattern.search(text)
        if found and found[1] in letters:
            return found[1]
    plain = text.lower().rstrip(" .")
    same = [letter for letter, choice in zip(letters, choices, strict=False) if plain == choice.lower().rstrip(" .")]
    return same[0] if len(same) == 1 else None


def letter_is_right(prompt: Prompt, response: Response) -> float:
    """1 where the letter that was named is the reference."""
    return float(chosen_letter(response.response, prompt.choices) == prompt.reference)


def best_is_right(prompt: Prompt, scores: Sequence[float]) -> float:
    """1 where the likeliest choice is the reference (MMLU; TruthfulQA's MC1). The first of equals is taken.

    Args:
        prompt: with choices and their reference.
        scores: log-probability of each choice, in nats, summed over its tokens.
    """
    best = max(range(len(scores)), key=scores.__getitem__)
    return float(prompt.choices[best] == prompt.reference)


def true_share(prompt: Prompt, scores: Sequence[float]) -> float:
    """TruthfulQA's MC2 (Lin et al. 2021, arXiv 2109.07958): the probability of the true choices ÷ that of all.

    Args:
        prompt: with choices, the true ones also among its answers.
        scores: log-probability of each choice, in nats, summed over its tokens.
    """
    highest = max(scores)
    weights = [math.exp(score - highest) for score in scores]
    true = sum(weight for choice, weight in zip(prompt.choices, weights, strict=True) if choice in prompt.answers)
    return true / sum(weights)
