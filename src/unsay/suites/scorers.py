"""Scores of utility answers: graded by a judge model, multiple choice, VQA accuracy, yes or no.

Graded: the message to a judge model, in our own words, and how its JSON reply is read. A reply that is no JSON, lacks a
number or has one out of range is a failure of that row and in no score.

VQA accuracy (Antol et al. 2015, arXiv 1505.00468): an answer is worth min(1, n ÷ 3), n the annotators that gave it,
averaged over all ways to leave one annotator out, as the official evaluation does. Answers are compared after its
normalisation of case, punctuation, articles, number words and contractions.
"""

import json
import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from itertools import product

from unsay.records import Prompt, Response

LETTERS = "ABCDEFGHIJ"
"""Of the choices, in their order."""
NEEDED = 3
"""Annotators that make an answer fully right."""
MME_PERCEPTION = (
    "existence", "count", "position", "color", "posters", "celebrity", "scene", "landmark", "artwork", "OCR",
)  # fmt: skip
MME_COGNITION = ("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning")

_OBJECT = re.compile(r"\{.*\}", re.DOTALL)
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
    ratings = _object(reply)
    first, second = _number(ratings, "answer_1", 1, 10), _number(ratings, "answer_2", 1, 10)
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
    match = _OBJECT.search(reply)
    if match is None:
        raise ValueError("no JSON object")
    value = json.loads(match[0])
    if not isinstance(value, dict):
        raise ValueError("no JSON object")
    return value


def _number(values: dict[str, object], name: str, low: float, high: float) -> float:
    value = values.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name}: no number")
    if not low <= value <= high:
        raise ValueError(f"{name}: {value} is not from {low} to {high}")
    return float(value)


def chosen_letter(answer: str, choices: Sequence[str]) -> str | None:
    """The letter that an answer names, or None: ScienceQA counts an answer without one as wrong.

    ScienceQA's own evaluation reads `The answer is B.`, LLaVA's also `B` and `B. words`; here these count and what says
    the same. Read in this order: a letter that begins the answer (`B`, `b`, `(B)`, `**B.** words`); the one that is
    called the answer (`the answer is B`, `the correct option: B`), then the one that is called an option, where these
    are not several; the words of exactly one choice, alone or called the answer.
    """
    text = _MARKS.sub("", answer).strip()
    letters = LETTERS[: len(choices)]
    if first := _FIRST.match(text):
        letter = next(filter(None, first.groups())).upper()
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
    """1 where the likeliest choice is the reference (MMLU; TruthfulQA's MC1). The first of equals is taken."""
    best = max(range(len(scores)), key=scores.__getitem__)
    return float(prompt.choices[best] == prompt.reference)


def true_share(prompt: Prompt, scores: Sequence[float]) -> float:
    """TruthfulQA's MC2 (Lin et al. 2021, arXiv 2109.07958): the probability of the true choices ÷ that of all."""
    highest = max(scores)
    weights = [math.exp(score - highest) for score in scores]
    true = sum(weight for choice, weight in zip(prompt.choices, weights, strict=True) if choice in prompt.answers)
    return true / sum(weights)


def vqa_accuracy(answer: str, annotators: Sequence[str], spoken: bool = False) -> float:
    """The share of a full point that an answer earns; 0 without annotators."""
    if not annotators:
        return 0.0
    own = normalise(answer, spoken)
    same = [normalise(other, spoken) == own for other in annotators]
    if len(same) == 1:
        return float(same[0])
    agreeing = sum(same)
    # Without one who agrees, one fewer is left.
    return sum(min(1.0, (agreeing - one) / NEEDED) for one in same) / len(same)


def vqa_value(prompt: Prompt, response: Response) -> float:
    """VQAv2's rule for one item."""
    return vqa_accuracy(response.response, prompt.answers)


def textvqa_value(prompt: Prompt, response: Response) -> float:
    """TextVQA's rule for one item."""
    return vqa_accuracy(response.response, prompt.answers, spoken=True)


def normalise(text: str, spoken: bool = False) -> str:
    """An answer as it is compared; `spoken` prepares it as TextVQA does: no commas and question marks, `'s` a word."""
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


def _misspelt(word: str) -> Iterator[str]:
    """Every spelling of a contraction that lacks at least one of its apostrophes."""
    parts = word.split("'")
    for marks in product(("'", ""), repeat=len(parts) - 1):
        if "" in marks:
            yield "".join(part + mark for part, mark in zip(parts, (*marks, ""), strict=True))


_CONTRACTIONS = {wrong: word for word in _WRITTEN.split() for wrong in _misspelt(word)}


def pope_answer(answer: str) -> str:
    """POPE's reading (Li et al. 2023, arXiv 2305.10355): `no` if the first sentence has the word no or not, else `yes`.

    An empty answer is therefore a yes, as in the official evaluation.
    """
    words = answer.split(".")[0].replace(",", "").split(" ")
    return "no" if {"No", "not", "no"} & set(words) else "yes"


def mme_answer(answer: str) -> str:
    """MME's reading (Fu et al. 2023, arXiv 2306.13394): yes or no among the first four letters, else `other`."""
    text = answer.lower().strip().replace(".", "")
    if len(text) == 1:
        return {"y": "yes", "n": "no"}.get(text, "other")
    return "yes" if "yes" in text[:4] else "no" if "no" in text[:4] else "other"


def pope_value(prompt: Prompt, response: Response) -> float:
    """1 where POPE's reading is the label."""
    return float(pope_answer(response.response) == prompt.reference)


def mme_value(prompt: Prompt, response: Response) -> float:
    """1 where MME's reading is the label."""
    return float(mme_answer(response.response) == (prompt.reference or "").lower())


def _confusion(prompts: Sequence[Prompt], values: Sequence[float]) -> tuple[int, int, int, int]:
    """(true yes, false yes, true no, false no): whoever is wrong about a yes answer no, and the other way round."""
    counts = [0, 0, 0, 0]
    for prompt, value in zip(prompts, values, strict=True):
        if prompt.reference == "yes":
            counts[0 if value else 3] += 1
        else:
            counts[2 if value else 1] += 1
    return counts[0], counts[1], counts[2], counts[3]


def precision(prompts: Sequence[Prompt], values: Sequence[float]) -> float:
    """Right yeses ÷ yeses; 0 if there were none."""
    true_yes, false_yes, _, _ = _confusion(prompts, values)
    return true_yes / (true_yes + false_yes) if true_yes + false_yes else 0.0


def recall(prompts: Sequence[Prompt], values: Sequence[float]) -> float:
    """Right yeses ÷ questions whose answer is yes; 0 if there were none."""
    true_yes, _, _, false_no = _confusion(prompts, values)
    return true_yes / (true_yes + false_no) if true_yes + false_no else 0.0


def f1(prompts: Sequence[Prompt], values: Sequence[float]) -> float:
    """Harmonic mean of precision and recall."""
    true_yes, false_yes, _, false_no = _confusion(prompts, values)
    whole = 2 * true_yes + false_yes + false_no
    return 2 * true_yes / whole if whole else 0.0


def yes_ratio(prompts: Sequence[Prompt], values: Sequence[float]) -> float:
    """Yeses ÷ answers: a model that says yes to everything has 1."""
    true_yes, false_yes, true_no, false_no = _confusion(prompts, values)
    return (true_yes + false_yes) / max(1, true_yes + false_yes + true_no + false_no)


def of_category(
    name: str,
    what: Callable[[Sequence[Prompt], Sequence[float]], float],
    prompts: Sequence[Prompt],
    values: Sequence[float],
) -> float:
    """A number over the questions of one category only."""
    kept = [(prompt, value) for prompt, value in zip(prompts, values, strict=True) if prompt.category == name]
    return what([prompt for prompt, _ in kept], [value for _, value in kept])


def mme_score(prompts: Sequence[Prompt], values: Sequence[float]) -> float:
    """MME's sum over subtasks of accuracy and accuracy+, both in per cent: at most 200 a subtask, 2,800 in all.

    accuracy+ counts a picture only where both its questions are right.
    """
    pictures: defaultdict[str | None, defaultdict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    for prompt, value in zip(prompts, values, strict=True):
        pictures[prompt.category][prompt.group].append(value)
    total = 0.0
    for subtask in pictures.values():
        answered = [value for picture in subtask.values() for value in picture]
        # By questions, not pictures: a picture that a bootstrap has drawn twice counts twice.
        both = sum(len(picture) for picture in subtask.values() if all(picture))
        total += 100 * sum(answered) / len(answered) + 100 * both / len(answered)
    return total


def mme_part(names: Sequence[str], prompts: Sequence[Prompt], values: Sequence[float]) -> float:
    """`mme_score` over some subtasks only."""
    kept = [(prompt, value) for prompt, value in zip(prompts, values, strict=True) if prompt.category in names]
    return mme_score([prompt for prompt, _ in kept], [value for _, value in kept])
