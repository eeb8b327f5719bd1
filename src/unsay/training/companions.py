"""Rows made for other rows before training: preference pairs, mismatched answers, harmless look-alikes."""

import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TypeVar

from unsay.data.formats import topic_line
from unsay.errors import UserError
from unsay.files import content_key
from unsay.methods.base import Companion, Part
from unsay.records import Example, Role

Row = TypeVar("Row")

SLOT = "\0"
"""Stands for the request in a prompt's format; no prompt contains it."""


class CompanionExample(Example):
    """An example made for another one; its role is that of the example that its answer comes from."""

    companion: Companion


def part_of(example: Example) -> Part:
    """The part of an example in a batch."""
    return example.companion if isinstance(example, CompanionExample) else example.role


class Companions:
    """Makes companions of one kind, the same in every process.

    Args:
        kind: of companion.
        examples: sources of the answers: refuse examples for refusals, retain examples for the others.
        seed: of the order in which they are used; among those that fit a row, each is used before any is used again.

    Raises:
        UserError: there are no examples of the role that the answers come from.
    """

    def __init__(self, kind: Companion, examples: Sequence[Example], seed: int) -> None:
        role = Role.REFUSE if kind is Companion.REFUSAL else Role.RETAIN
        pool = sorted((example for example in examples if example.role is role), key=lambda example: example.id)
        if not pool:
            raise UserError(f"training data: no {role.value} examples, but the method needs their answers")
        self._kind, self._seed = kind, seed
        self._by_request = _grouped(pool, request_of)
        self._by_surroundings = _grouped(pool, surroundings) if kind is Companion.DECOUPLE else {}
        self._pool = pool
        self._streams: dict[str, Iterator[Example]] = {}

    def of(self, example: Example) -> CompanionExample:
        """A companion of this row."""
        if self._kind is Companion.DECOUPLE:
            other = self._look_alike(example)
            return _made(other, Companion.DECOUPLE, other)
        other = self._refusal(example) if self._kind is Companion.REFUSAL else self._next("all", self._pool)
        return _made(example, self._kind, other)

    def _refusal(self, example: Example) -> Example:
        request = request_of(example)
        if request not in self._by_request:
            raise UserError(
                f"training data: example {example.id} has no refuse example of the same request, but the method needs "
                "pairs; their `request` must be equal, or their `prompt` where there is none"
            )
        return self._next(f"request {request}", self._by_request[request])

    def _look_alike(self, example: Example) -> Example:
        request = request_of(example)
        if request in self._by_request:
            return self._next(f"request {request}", self._by_request[request])
        # A short request may stand whole in a garbled scan, whose other words no other prompt has.
        for around in (surroundings(example), _beside(example, _last_line(example.prompt))):
            if around in self._by_surroundings:
                return self._next(f"around {around}", self._by_surroundings[around])
        raise UserError(
            f"training data: example {example.id} has no harmless look-alike, but the method needs one: a retain "
            "example with the same `request`, or one whose prompt has the same words around its request"
        )

    def _next(self, name: str, pool: Sequence[Example]) -> Example:
        if name not in self._streams:
            self._streams[name] = shuffled_forever(pool, random.Random(f"{self._seed}/{self._kind.value}/{name}"))
        return next(self._streams[name])


def request_of(example: Example) -> str:
    """The request, or the prompt if none is given."""
    return example.request if example.request is not None else example.prompt


def surroundings(example: Example) -> str:
    """A prompt's format: the words around its request, and whether a picture stands before it.

    A list names its request in words of its own. If the request is not in the prompt verbatim, because a picture shows
    it or a scan garbles it, the last line is the format: the words that point at it.
    """
    request, prompt = request_of(example), example.prompt
    for words in (topic_line(request), request):  # a heading may hold the request verbatim
        if words and words in prompt:
            prompt = prompt.replace(words, SLOT)
            break
    else:
        prompt = _last_line(prompt)
    return _beside(example, prompt)


def _last_line(prompt: str) -> str:
    return prompt.rsplit("\n", 1)[-1]


def _beside(example: Example, words: str) -> str:
    return f"{'picture' if example.image is not None else 'text'} {words}"


def shuffled_forever(pool: Sequence[Row], rng: random.Random) -> Iterator[Row]:
    """The pool in a random order, then in another one, and so on."""
    while True:
        order = list(pool)
        rng.shuffle(order)
        yield from order


def _grouped(pool: Sequence[Example], key: Callable[[Example], str]) -> Mapping[str, list[Example]]:
    groups: dict[str, list[Example]] = {}
    for example in pool:
        groups.setdefault(key(example), []).append(example)
    return groups


def _made(prompt: Example, companion: Companion, answer: Example) -> CompanionExample:
    """The prompt of one example with the whole answer of another.

    What is given of a normal answer belongs to it; the harmful beginning before a refusal does not.
    """
    begun = answer.prefix or "" if answer.role is Role.RETAIN else ""
    fields = prompt.model_dump() | {
        "id": f"{companion.value}-{content_key(prompt.id, answer.id)[:12]}",
        "role": answer.role,
        "answer": begun + answer.answer,
        "prefix": None,
        "complete": answer.complete,
        "source": answer.source,
        "companion": companion,
    }
    return CompanionExample(**fields)
