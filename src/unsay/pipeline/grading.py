"""Values of utility suites; and open answers that a judge model grades."""

from collections.abc import Sequence
from typing import Any

from unsay.errors import UserError
from unsay.records import Prompt, Record, Response
from unsay.suites.base import GRADER, Grade

ROOM = 256
"""Tokens of a judge model's reply."""


class Value(Record):
    """What one item of a utility suite came to, in the suite's unit."""

    id: str
    value: float | None
    """None where a judge model gave no usable grade: in no score, and counted."""
    weight: float = 1.0


def graded(judge: Any, grade: Grade, pairs: Sequence[tuple[Prompt, Response]]) -> list[Value]:
    """A judge model's grades, in order; what goes wrong with one row costs that row alone.

    Args:
        judge: the run's judge; it must have a `client` that completes chats.
        grade: what is asked, and how a reply is read.
        pairs: prompts and answers.

    Raises:
        UserError: the judge is no judge model, or its server takes no requests at all.
    """
    client = getattr(judge, "client", None)
    if client is None:
        raise UserError(f"evaluation.judge: '{judge.name}' cannot grade open answers; '{GRADER}' can")
    client.begin()
    values = [_one(client, grade, prompt, response) for prompt, response in pairs]
    if (trouble := client.trouble()) is not None:
        raise UserError(f"judge '{judge.name}': {trouble}. Then run the same command again")
    return values


def _one(client: Any, grade: Grade, prompt: Prompt, response: Response) -> Value:
    messages = [{"role": "user", "content": grade.ask(prompt, response)}]
    try:
        reply = client.complete(messages, max_tokens=ROOM, temperature=0.0)
        value, weight = grade.read(str(reply.text))
    except Exception:  # an outage, a refusal, nonsense: never a grade
        return Value(id=prompt.id, value=None)
    return Value(id=prompt.id, value=value, weight=weight)
