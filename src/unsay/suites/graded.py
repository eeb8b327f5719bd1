"""What a judge model is asked of open answers, and how its reply is read. The wording is our own.

Replies are JSON. One that is not, or lacks a number, or has one out of range, is a failure of that row and in no score.
"""

import json
import math
import re

from unsay.records import Prompt, Response

_OBJECT = re.compile(r"\{.*\}", re.DOTALL)


def ask_pair(prompt: Prompt, response: Response) -> str:
    """LLaVA-Bench's scheme: two answers beside a description of the picture, each to be rated from 1 to 10."""
    return (
        "Rate two answers to a question about a picture. You cannot see the picture; this describes it:\n"
        f"{prompt.answers[0]}\n\nQuestion: {prompt.prompt}\n\nAnswer 1: {prompt.reference}\n\n"
        f"Answer 2: {response.response}\n\n"
        "Give each answer an overall rating from 1 to 10 for helpfulness, relevance, accuracy and detail. Do not let "
        'their order or length sway you. Reply with JSON only: {"answer_1": rating, "answer_2": rating}'
    )


def read_pair(reply: str) -> tuple[float, float]:
    """(answer 2 ÷ answer 1 in per cent, the weight: answer 1), so that the weighted mean is a ratio of sums.

    Raises:
        ValueError: the reply is not such JSON, or a rating is not from 1 to 10.
    """
    found = _object(reply)
    first, second = _number(found, "answer_1", 1, 10), _number(found, "answer_2", 1, 10)
    return 100 * second / first, first


def ask_score(prompt: Prompt, response: Response) -> str:
    """MM-Vet's scheme: how right an answer is against the reference, from 0 to 1."""
    return (
        f"Question about a picture: {prompt.prompt}\n\nReference answer: {prompt.reference}\n\n"
        f"Answer to be graded: {response.response}\n\n"
        "In the reference, <AND> joins parts that must all be there, <OR> parts of which one is enough. How correct is "
        'the answer, from 0.0 (wrong) to 1.0 (right), in steps of 0.1? Reply with JSON only: {"correctness": number}'
    )


def read_score(reply: str) -> tuple[float, float]:
    """(correctness, weight 1).

    Raises:
        ValueError: the reply is not such JSON, or the number is not from 0 to 1.
    """
    return _number(_object(reply), "correctness", 0, 1), 1.0


def _object(reply: str) -> dict[str, object]:
    found = _OBJECT.search(reply)
    if found is None:
        raise ValueError("no JSON object")
    value = json.loads(found[0])
    if not isinstance(value, dict):
        raise ValueError("no JSON object")
    return value


def _number(found: dict[str, object], name: str, low: float, high: float) -> float:
    value = found.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name}: no number")
    if not low <= value <= high:
        raise ValueError(f"{name}: {value} is not from {low} to {high}")
    return float(value)
