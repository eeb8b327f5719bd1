"""Multiple choice: the letter that an answer names, and scores from the likelihood of the choices."""

import math
import re
from collections.abc import Sequence

from unsay.records import Prompt, Response

LETTERS = "ABCDEFGHIJ"
_MARKS = re.compile(r"[*_`\"]+")
"""Of Markdown, and quotation marks."""
_ENDS = r"(?=$|[).,:;!?\n]|\s+(?:because|since|is|and)\b)"
_NAMED = rf"\(?([B-HJ]\b|[A-Ja-j]{_ENDS})"
"""A letter in a sentence. A, I and small letters may be words: they must end the clause, or a reason must follow."""
_VERDICT = r"(?i:\b(?:answer|option|choice)(?:(?:\s+is|\s+would\s+be)\b\s*:?|\s*:))"
_FIRST = re.compile(r"\(?([A-Ja-j])\)?[.:,]?(?=\n|$)|\(?([A-J])(?:[).:,]|\s+is\b)|\(?([a-j])[).:]\s")
_SAID = re.compile(rf"{_VERDICT}\s*(?i:option\s+|choice\s+)?{_NAMED}")
_OPTION = re.compile(rf"(?i:\b(?:option|choice))\s+\(?([A-J]\b|[a-j]{_ENDS})")
_LEAD = re.compile(rf"^(?i:the\s+)?(?i:(?:correct|right|best)\s+)?{_VERDICT}\s*")


def chosen_letter(said: str, choices: Sequence[str]) -> str | None:
    """The letter that an answer names, or None: ScienceQA counts an answer without one as wrong.

    ScienceQA's own evaluation reads `The answer is B.`, LLaVA's also `B` and `B. words`; here these count and what says
    the same. Read in this order: a letter that begins the answer (`B`, `b`, `(B)`, `**B.** words`); the one that is
    called the answer (`the answer is B`, `the correct option: B`), then the one that is called an option, where these
    are not several; the words of exactly one choice, alone or called the answer.

    Args:
        said: the answer.
        choices: the words of the choices, in the order of their letters.
    """
    text = _MARKS.sub("", said).strip()
    letters = LETTERS[: len(choices)]
    if found := _FIRST.match(text):
        letter = next(filter(None, found.groups())).upper()
        return letter if letter in letters else None
    for pattern in (_SAID, _OPTION):
        named = {letter.upper() for letter in pattern.findall(text)}
        if named:
            return named.pop() if len(named) == 1 and named <= set(letters) else None
    plain = _LEAD.sub("", text).lower().rstrip(" .")
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
