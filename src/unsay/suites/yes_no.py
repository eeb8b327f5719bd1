"""Yes-or-no questions: how POPE and MME read an answer, and what they make of all of them."""

from collections import defaultdict
from collections.abc import Callable, Sequence

from unsay.records import Prompt, Response

MME_PERCEPTION = (
    "existence", "count", "position", "color", "posters", "celebrity", "scene", "landmark", "artwork", "OCR",
)  # fmt: skip
MME_COGNITION = ("commonsense_reasoning", "numerical_calculation", "text_translation", "code_reasoning")


def pope_answer(said: str) -> str:
    """POPE's reading (Li et al. 2023, arXiv 2305.10355): `no` if the first sentence has the word no or not, else `yes`.

    An empty answer is therefore a yes, as in the official evaluation.
    """
    words = said.split(".")[0].replace(",", "").split(" ")
    return "no" if {"No", "not", "no"} & set(words) else "yes"


def mme_answer(said: str) -> str:
    """MME's reading (Fu et al. 2023, arXiv 2306.13394): yes or no among the first four letters, else `other`."""
    text = said.lower().strip().replace(".", "")
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
    """(true yes, false yes, true no, false no): whoever is wrong about a yes said no, and the other way round."""
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
