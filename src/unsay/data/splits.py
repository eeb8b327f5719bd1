"""Which side a prompt is on, and keeping the training side clean of anything like a test prompt.

The side of a prompt depends on nothing but its own text, so it is the same in every run, source, suite and order of
rows. Public harmful-prompt sets are repetitive and copy from each other, so an equal-text check is not enough:
`split` and `drop_overlap` also remove near duplicates from the training side. The test side is never touched.
"""

import hashlib
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Literal, TypeAlias, TypeVar

from unsay.files import file_key
from unsay.records import Example, Prompt, SourceRow

Side = Literal["train", "test"]

Row = TypeVar("Row", SourceRow, Example, Prompt)

PicturedRequest: TypeAlias = tuple[str, str | None]
"""A bare request and the content key of its picture, or None: one text may come with several pictures."""

JACCARD = 0.5
"""Two prompts are near duplicates if they share at least this part of the content words of both together."""
CONTAINMENT = 0.8
"""They are also if they share at least this part of the content words of the one with fewer,"""
CONTAINED_WORDS = 3
"""where that one has at least this many (two words in a longer prompt say too little)."""

_FUNCTION_WORDS = """
    a about after all also am an and any are as at be been being but by can could did do does doing for from had has
    have having he her his how i if in into is it its just like ll may me might more most my no not of off on once one
    or other our out over own please s should so some such t than that the their them then there these they this those
    to too under up upon us ve very was we were what when where which while who whom why will with without would you
    your yourself d m re don doesn isn
"""
_FILLER = frozenset(_FUNCTION_WORDS.split())

_UNSPACED = re.compile(
    "([\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff\U00020000-\U0003ffff]+)"
)
"""Runs of a script that is written without spaces: Thai, Lao, Burmese, Khmer, Japanese, Chinese."""


def normalise(text: str) -> str:
    """`text` in one spelling: Unicode NFKC, casefolded, everything but letters, marks and digits one space.

    A text without any letter or digit is only casefolded and stripped, so that such texts stay apart.
    Normalising twice changes nothing.
    """
    folded, before = text, None
    while folded != before:  # folding can undo NFKC and the other way round; two rounds are enough in practice
        before, folded = folded, unicodedata.normalize("NFKC", folded).casefold()
    words = "".join(char if unicodedata.category(char)[0] in "LMN" else " " for char in folded).split()
    return " ".join(words or folded.split())


def prompt_key(text: str) -> str:
    """A 16-hex-digit name for a prompt, equal for texts that are equal after `normalise`."""
    return hashlib.sha256(normalise(text).encode("utf-8", errors="surrogatepass")).hexdigest()[:16]


def side(text: str, salt: str = "", test_share: float = 0.5) -> Side:
    """The side a prompt is on, decided by a hash of the normalised text alone; another salt is an independent split."""
    digest = hashlib.sha256(f"{salt}\0{normalise(text)}".encode("utf-8", errors="surrogatepass")).digest()
    return "test" if int.from_bytes(digest[:8], "big") < test_share * 2**64 else "train"


def split(rows: Sequence[Row], salt: str = "", test_share: float = 0.5) -> tuple[list[Row], list[Row]]:
    """Split rows into (train, test); a train row that is a near duplicate of a test row is in neither.

    Which rows come out does not depend on the order of `rows`; each side keeps that order.
    """
    sides: dict[Side, list[Row]] = {"train": [], "test": []}
    for row in rows:
        sides[side(request_of(row), salt, test_share)].append(row)
    return drop_overlap(sides["train"], sides["test"]), sides["test"]


def drop_overlap(train: Sequence[Row], *held_out: Iterable[SourceRow | Example | Prompt]) -> list[Row]:
    """The rows of `train`, in order, that are neither equal nor nearly equal to any row held out.

    Equal means equal after `normalise`; nearly equal is defined by `JACCARD` and `CONTAINMENT` over content words:
    normalised words without function words, crudely stemmed (English; other languages get the same without stemming
    doing much), and pairs of neighbouring characters where a script has no spaces. Whether a row is kept depends only
    on that row and the held-out rows.
    """
    index = OverlapIndex(request_of(row) for rows in held_out for row in rows)
    return [row for row in train if not index.overlaps(request_of(row))]


def drop_copies(rows: Iterable[Row], *held_out: Iterable[SourceRow | Example | Prompt]) -> list[Row]:
    """The rows, in order, that are neither (nearly) equal to an earlier one that is kept, nor to any row held out."""
    index = OverlapIndex(request_of(row) for held in held_out for row in held)
    kept = []
    for row in rows:
        if not index.overlaps(request_of(row)):
            kept.append(row)
            index.add(request_of(row))
    return kept


class OverlapIndex:
    """Answers "is this prompt (nearly) one of those?" for a set of prompts."""

    def __init__(self, texts: Iterable[str] = ()) -> None:
        self._exact: set[str] = set()
        self._sets: set[frozenset[str]] = set()
        self._holders: defaultdict[str, list[frozenset[str]]] = defaultdict(list)
        for text in texts:
            self.add(text)

    def add(self, text: str) -> None:
        """Add a prompt."""
        exact = normalise(text)
        if exact in self._exact:
            return
        self._exact.add(exact)
        words = frozenset(content_words(exact))
        if words not in self._sets:
            self._sets.add(words)
            for word in words:
                self._holders[word].append(words)

    def overlaps(self, text: str) -> bool:
        """Whether `text` is equal or nearly equal to one of the indexed prompts."""
        if normalise(text) in self._exact:
            return True
        words = content_words(text)
        shared = Counter(held for word in words for held in self._holders.get(word, ()))
        return any(_near(count, len(words), len(held)) for held, count in shared.items())


def content_words(text: str) -> set[str]:
    """The stems of a text's words, function words left out; pairs of characters where a script has no spaces."""
    words = normalise(text).split()
    return {_stem(word) for found in words for word in _words_in(found) if word not in _FILLER}


def near_duplicates(first: str, second: str) -> bool:
    """Whether two prompts count as the same request. Symmetric."""
    return OverlapIndex([first]).overlaps(second)


def request_of(row: SourceRow | Example | Prompt) -> str:
    """The bare request of any kind of row, without a format that is wrapped around it."""
    if isinstance(row, SourceRow):
        return row.text
    return row.request or row.prompt


def pictured_request_of(row: SourceRow | Example | Prompt) -> PicturedRequest:
    """The bare request of any kind of row, with the picture that it comes with."""
    return request_of(row), None if row.image is None else file_key(Path(row.image))


def _near(shared: int, first: int, second: int) -> bool:
    """Whether two sets of these sizes with this many words in common are near duplicates."""
    smaller = min(first, second)
    contained = smaller >= CONTAINED_WORDS and shared >= CONTAINMENT * smaller
    return contained or shared >= JACCARD * (first + second - shared)


def _words_in(found: str) -> Iterator[str]:
    """What stands between two spaces; in a script without them, each pair of neighbouring characters in it."""
    for number, part in enumerate(_UNSPACED.split(found)):
        if number % 2:  # what the pattern matches is at the odd places
            yield from (part[at : at + 2] for at in range(max(1, len(part) - 1)))
        elif part:
            yield part


def _stem(word: str) -> str:
    """Cut one common English ending, so that "make", "makes" and "making" meet; crude, but the same on both sides."""
    for ending in ("ing", "ed", "es", "s", "e"):
        if word.endswith(ending) and len(word) - len(ending) >= 3:
            return word.removesuffix(ending)
    return word
