"""Rows of a step by subject: harmful rows in turn over the subjects, and beside each the harmless row most like it.

A model that sees harmful and harmless requests of different subjects and styles can tell them apart by either. Side by
side in one step, on one subject and in nearly the same words, only the meaning differs.
"""

import math
import random
from collections import Counter
from collections.abc import Iterator, Sequence

from unsay.data.splits import content_words
from unsay.records import Example
from unsay.training.companions import request_of


def in_turn_forever(pool: Sequence[Example], rng: random.Random) -> Iterator[Example]:
    """The pool in rounds over its subjects, one row of each subject that has some left; then again in another order."""
    while True:
        groups: dict[str | None, list[Example]] = {}
        for example in rng.sample(pool, len(pool)):
            groups.setdefault(example.subject, []).append(example)
        while groups:
            for subject in list(groups):
                yield groups[subject].pop()
                if not groups[subject]:
                    del groups[subject]


class Pairs:
    """Harmless rows with a subject, each used once before any is used twice within its source.

    Likeness is the sum, over the content words that two requests share, of log(rows / rows with that word): rare words
    count most, and a word of every row nothing.
    """

    def __init__(self, pool: Sequence[Example], rng: random.Random) -> None:
        self._pool = pool
        self._words = {example.id: content_words(request_of(example)) for example in pool}
        holders = Counter(word for words in self._words.values() for word in words)
        self._weights = {word: math.log(len(pool) / count) for word, count in holders.items()}
        self._unused: dict[str, list[Example]] = {}
        self._rng = rng

    def beside(self, harmful: Example, source: str) -> Example:
        """The unused row of a source that is most like a harmful one: of its subject if there is one left."""
        unused = self._unused.get(source)
        if not unused:
            unused = [example for example in self._pool if example.source == source]
            self._rng.shuffle(unused)  # decides between equally like rows
            self._unused[source] = unused
        words = content_words(request_of(harmful))
        candidates = [example for example in unused if example.subject == harmful.subject] or unused
        chosen = max(candidates, key=lambda example: self._likeness(words, example))
        unused.remove(chosen)
        return chosen

    def _likeness(self, words: set[str], example: Example) -> float:
        return math.fsum(self._weights[word] for word in words & self._words[example.id])
