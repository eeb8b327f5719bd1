"""Words below each other, with questions about where they stand: sight by way of reading."""

import random
from collections.abc import Sequence

from unsay.data.shape_scenes import NUMBERS, Question


def questions(lines: Sequence[str], absent: str, rng: random.Random) -> list[Question]:
    """Every kind of question that has exactly one right answer about this column; the words in it are drawn.

    Args:
        lines: different words and numbers, the highest first.
        absent: a word that is not among them.
        rng: draws the words that are asked about.
    """
    listed = [
        Question(f"How many {rng.choice(('words', 'lines'))} are there?", NUMBERS[len(lines)], "count"),
        Question(f"Is the word {rng.choice(lines)} there?", "yes", "there"),
        Question(f"Is the word {absent} there?", "no", "there"),
    ]
    if len(lines) > 1:
        first, second = sorted(rng.sample(range(len(lines)), 2))
        order = rng.sample((first, second), 2)
        pair = f"{lines[order[0]]} or {lines[order[1]]}"
        listed += [
            Question(f"Which word is higher, {pair}?", lines[first], "order"),
            Question(f"Which word is lower, {pair}?", lines[second], "order"),
            Question("What is the word at the top?", lines[0], "end"),
            Question("What is the word at the bottom?", lines[-1], "end"),
            Question(f"What is below {lines[first]}?", lines[first + 1], "below"),
        ]
    numbers = [line for line in lines if line.isdigit()]
    if len(numbers) == 1:
        listed.append(Question("What number is shown?", numbers[0], "number"))
    return listed


def draw(words: Sequence[str], number: int, rng: random.Random) -> list[str]:
    """`number` different lines in no order: words of three to ten letters from `words`, and a fifth numbers.

    Args:
        words: from running text; what is too short, too long or not of letters alone is passed over.
        number: of lines.
        rng: draws them.
    """
    lines: dict[str, None] = {}
    usable = [word for word in words if word.isalpha() and 2 < len(word) < 11]
    while len(lines) < number:
        numeric = rng.random() < 0.2 or not usable
        lines[str(rng.randint(10, 9999)) if numeric else rng.choice(usable)] = None
    return list(lines)
