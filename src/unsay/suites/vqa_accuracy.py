"""VQA accuracy (Antol et al. 2015, arXiv 1505.00468): how many of ten annotators said the same.

An answer is worth min(1, n ÷ 3), n the annotators that gave it, averaged over all ways to leave one annotator out, as
the official evaluation does. Answers are compared after its normalisation of case, punctuation, articles, number words
and contractions.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import product

from unsay.records import Prompt, Response

NEEDED = 3
"""Annotators that make an answer fully right."""
_ARTICLES = frozenset(("a", "an", "the"))
_NUMBER_WORDS = "zero one two three four five six seven eight nine ten"
_NUMBERS = {"none": "0"} | {word: str(number) for number, word in enumerate(_NUMBER_WORDS.split())}
_PUNCTUATION = ';/[]"{}()=+\\_-><@`,?!'
_COMMA_IN_NUMBER = re.compile(r"(?<=\d),+(?=\d)")
_PERIOD = re.compile(r"\.(?!\d)")
_WRITTEN = """
    ain't aren't can't could've couldn't couldn't've didn't doesn't don't hadn't hadn't've hasn't haven't he'd
    he'd've he's how'd how'll how's isn't it'd it'd've it'll ma'am mightn't mightn't've might've mustn't must've
    needn't not've o'clock oughtn't shan't she'd've should've shouldn't shouldn't've somebody'd've somebody'll
    somebody's someone'd someone'd've someone'll someone's something'd something'd've something'll that's
    there'd there'd've there're there's they'd they'd've they'll they're they've 'twas wasn't we'd've we've
    weren't what'll what're what's what've when's where'd where's where've who'd who'd've who'll who's who've
    why'll why're why's won't would've wouldn't wouldn't've y'all y'all'll y'all'd've you'd you'd've you'll
    you're you've
"""


def _misspelt(word: str) -> Iterator[str]:
    """Every spelling of a contraction that lacks at least one of its apostrophes."""
    parts = word.split("'")
    for marks in product(("'", ""), repeat=len(parts) - 1):
        if "" in marks:
            yield "".join(part + mark for part, mark in zip(parts, (*marks, ""), strict=True))


_CONTRACTIONS = {wrong: word for word in _WRITTEN.split() for wrong in _misspelt(word)}


def normalise(text: str, spoken: bool = False) -> str:
    """An answer as it is compared.

    Args:
        text: the answer.
        spoken: prepare it first as TextVQA's evaluation does: no commas and question marks, `'s` a word of its own.
    """
    text = text.replace("\n", " ").replace("\t", " ").strip()
    if spoken:
        text = text.lower().replace(",", "").replace("?", "").replace("'s", " 's").strip()
    words = [_NUMBERS.get(word, word) for word in _without_punctuation(text).lower().split()]
    return " ".join(_CONTRACTIONS.get(word, word) for word in words if word not in _ARTICLES)


def _without_punctuation(text: str) -> str:
    """A mark beside a blank, or any mark where a number has a comma in it, vanishes; others become blanks."""
    out = text
    numbered = _COMMA_IN_NUMBER.search(text) is not None
    for mark in _PUNCTUATION:
        beside_blank = f"{mark} " in text or f" {mark}" in text
        out = out.replace(mark, "" if beside_blank or numbered else " ")
    return _PERIOD.sub("", out)


def vqa_accuracy(said: str, annotators: Sequence[str], spoken: bool = False) -> float:
    """The share of a full point that an answer earns; 0 without annotators.

    Args:
        said: the answer.
        annotators: what each person said, ten in the official data.
        spoken: see `normalise`.
    """
    if not annotators:
        return 0.0
    answer = normalise(said, spoken)
    same = [normalise(person, spoken) == answer for person in annotators]
    if len(same) == 1:
        return float(same[0])
    agreeing = sum(same)
    # Without one who agrees, one fewer is left.
    return sum(min(1.0, (agreeing - one) / NEEDED) for one in same) / len(same)


def measured(prompt: Prompt, response: Response) -> float:
    """VQAv2's rule for one item."""
    return vqa_accuracy(response.response, prompt.answers)


def measured_spoken(prompt: Prompt, response: Response) -> float:
    """TextVQA's rule for one item."""
    return vqa_accuracy(response.response, prompt.answers, spoken=True)
