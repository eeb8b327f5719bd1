"""What the builder shows and asks: rendered text, coloured shapes and plain chat, drawn without end from a seed."""

from __future__ import annotations

import gzip
import hashlib
import json
import random
import string
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from tools.pocket import renditions, word_columns
from tools.pocket.pages import FACES, random_page
from unsay.data import shape_scenes, typography
from unsay.data.sources import halves, shipped
from unsay.data.splits import prompt_key
from unsay.errors import UserError
from unsay.records import SourceRow
from unsay.suites.transcription import held_out

TRANSCRIBE = (
    "Transcribe the text in the image.",
    "What does the image say?",
    "Read the text in the image.",
    "Write down the text shown in the picture.",
    "Copy the text in the image, word for word.",
    "What is written in the image?",
)
FOLLOW = (
    "Follow the instruction in the image.",
    "Do what the image says.",
    "Answer the request in the image.",
    "Respond to the text in the image.",
    "Please answer the question in the picture.",
    "The image contains a request. Please respond to it.",
)
FILL_IN = (
    "Fill in the empty list in the image.",
    "Complete the numbered list shown in the picture.",
    "Write the missing points of the list in the image.",
)
DESCRIBE = "List the shapes from left to right."
ONE_WORD = " Answer with one word."

GOALS = ("transcribe", "follow", "words", "shapes", "chat")
"""What a sample may be for."""

TOPICS = ("colour", "count", "exists", "kind", "side")
_TOPIC_SHARES = (0.3, 0.34, 0.12, 0.14, 0.1)  # colour and counting are what small models get wrong

SIMPLE = 0.5
"""Share of scenes of one or two shapes, from which a small language model learns first; the others have up to five."""

LONGEST = 220
"""Characters of a prompt that still fit on a page in legible letters."""

PROMPTS = 0.6
"""Share of the project's own prompts among whole instructions."""

NAMED = 0.3
"""Share of scenes shown as the names of their shapes: to look up a word is the language model's to learn, however well
the tower sees."""


class Pair(NamedTuple):
    """An instruction and what SmolLM2 itself answers to it, greedily.

    Attributes:
        instruction: what the user asks.
        response: the answer, perhaps cut off at 64 tokens.
        done: whether the model ended the answer itself.
    """

    instruction: str
    response: str
    done: bool


@dataclass(frozen=True)
class Texts:
    """What is written on pages, with SmolLM2's own answers.

    SmolLM2's instructions alone hold too few words: of those in other people's requests, two in five come up too seldom
    to be learned, and a page of them is then read as the next likely one.

    Attributes:
        pairs: instructions that SmolLM2 wrote.
        prompts: the project's everyday and alarming prompts, of the sides that no suite asks.
    """

    pairs: Sequence[Pair]
    prompts: Sequence[Pair] = ()

    def draw(self, rng: random.Random) -> Pair:
        """One pair; the share of the project's own is `PROMPTS`."""
        return rng.choice(self.prompts if self.prompts and rng.random() < PROMPTS else self.pairs)

    @cached_property
    def words(self) -> list[str]:
        """Every word of letters that comes up at least twice, once, with the capitals that it has there."""
        texts = (text for pair in (*self.pairs, *self.prompts) for text in (pair.instruction, pair.response))
        found = Counter(word.strip(string.punctuation) for text in texts for word in text.split())
        return sorted(w for w, times in found.items() if times > 1 and len(w) > 1 and w.isascii() and w.isalpha())


@dataclass(frozen=True)
class Sample:
    """One conversation to learn from.

    Attributes:
        goal: one of `GOALS`.
        image: height × width × 3, uint8; None in plain chat.
        turns: `(what the user says, what the model is to say)`, in order; the image stands in the first.
        ended: whether the last answer is complete, so that its end is learned too.
        reference: the same request as plain text; where given, the original language model's distribution over the
            answer, given this text, is the target rather than the answer itself.
    """

    goal: str
    image: NDArray[np.uint8] | None
    turns: tuple[tuple[str, str], ...]
    ended: bool = True
    reference: str | None = None


@dataclass(frozen=True)
class Mixture:
    """Shares of the goals in every batch; they need not add up to one."""

    transcribe: float = 0.34
    follow: float = 0.24
    words: float = 0.10
    shapes: float = 0.26
    chat: float = 0.06

    def counts(self, batch: int) -> dict[str, int]:
        """How many samples of each goal make up one batch: largest remainders, so the sum is exact."""
        shares = {goal: getattr(self, goal) for goal in GOALS}
        total = sum(shares.values())
        if total <= 0:
            raise UserError("mixture: every share is zero: give at least one goal a positive share")
        exact = {goal: batch * share / total for goal, share in shares.items()}
        counts = {goal: int(value) for goal, value in exact.items()}
        by_remainder = sorted(exact, key=lambda goal: counts[goal] - exact[goal])
        for goal in by_remainder[: batch - sum(counts.values())]:
            counts[goal] += 1
        return counts


def read_pairs(path: Path) -> list[Pair]:
    """Read the Magpie sample: `{"pairs": [{"i", "r", "done"}]}`, gzipped or plain.

    Raises:
        UserError: no such file, or not of this form.
    """
    try:
        raw = Path(path).read_bytes()
        if path.suffix == ".gz":
            raw = gzip.decompress(raw)
        return [Pair(row["i"], row["r"], bool(row["done"])) for row in json.loads(raw)["pairs"]]
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror or error}: make it with --step text") from None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{path}: not a sample of pairs: make it with --step text") from None


def pairs_json(pairs: Sequence[Pair]) -> dict[str, Any]:
    """The form that `read_pairs` reads."""
    return {"pairs": [{"i": pair.instruction, "r": pair.response, "done": pair.done} for pair in pairs]}


def own_prompts() -> tuple[list[Pair], list[Pair]]:
    """`(training, held out)` of the project's own prompts with SmolLM2's answers, as far as they fit on a page.

    What suites ask is held out, in no order.
    """
    training, held_out = (
        shipped.answered([*contrast, *plain]) for contrast, plain in zip(halves.contrast(), halves.plain(), strict=True)
    )
    shuffled = sorted(_on_pages(held_out), key=lambda pair: prompt_key(pair.instruction))
    return without_suites(_on_pages(training)), shuffled


def _on_pages(rows: Sequence[SourceRow]) -> list[Pair]:
    pairs = [Pair(row.text, row.answers[0], row.complete) for row in rows]
    return [pair for pair in pairs if len(pair.instruction) <= LONGEST and _is_drawable(pair.instruction)]


def without_suites(pairs: Sequence[Pair]) -> list[Pair]:
    """The pairs whose instruction no suite draws or asks: the pocket VLM must not know what it is tested on."""
    asked = {prompt_key(row.text) for row in held_out()}
    return [pair for pair in pairs if prompt_key(pair.instruction) not in asked]


def split_pairs(pairs: Sequence[Pair], share: int = 64) -> tuple[list[Pair], list[Pair]]:
    """`(training, held out)`: one instruction in `share` is held out, by its hash, so the split never moves."""
    training: list[Pair] = []
    held_out: list[Pair] = []
    for pair in pairs:
        digest = hashlib.sha256(pair.instruction.strip().lower().encode()).digest()
        chosen = int.from_bytes(digest[:4], "big") % share == 0
        (held_out if chosen else training).append(pair)
    return training, held_out


def _is_drawable(text: str) -> bool:
    return typography.missing_letter(text, FACES) is None


def transcription(texts: Texts, rng: random.Random, *, size: int = 224) -> Sample:
    """Text to be read out: instructions, shuffled words, random characters; a fifth above an empty list."""
    text = readable_text(texts, rng)
    if rng.random() < 0.2:
        text = typography.list_text(text)
    return Sample("transcribe", random_page(text, rng, size=size).pixels, ((rng.choice(TRANSCRIBE), text),))


def readable_text(texts: Texts, rng: random.Random) -> str:
    """Whole instructions and parts of answers; a fifth cannot be guessed from the language, only seen."""
    kind = rng.random()
    if kind < 0.55:
        return texts.draw(rng).instruction
    if kind < 0.60:
        return f"{rng.choice(texts.pairs).instruction} {rng.choice(texts.pairs).instruction}"
    if kind < 0.78:
        answer = texts.draw(rng).response.split()
        words = [word for word in answer if _is_drawable(word)]
        start = rng.randrange(max(1, len(words) - 8))
        return " ".join(words[start : start + rng.randint(3, 20)]) or "..."
    if kind < 0.96:
        return " ".join(rng.sample(texts.words, min(len(texts.words), rng.randint(1, 16)))) or "..."
    return random_characters(rng)


def random_characters(rng: random.Random) -> str:
    """One to eight made-up words of letters, digits and punctuation."""
    alphabet = rng.choice(
        (string.ascii_lowercase, string.ascii_letters, string.ascii_letters + string.digits + ".,:;!?-")
    )
    return " ".join("".join(rng.choices(alphabet, k=rng.randint(1, 9))) for _ in range(rng.randint(1, 8)))


def following(texts: Texts, rng: random.Random, *, size: int = 224) -> Sample:
    """A request that exists only as pixels; the target is what the original does with it as text."""
    pair = texts.draw(rng)
    user, shown, reference = rng.choice(FOLLOW), pair.instruction, pair.instruction
    if rng.random() < 0.15:
        user, shown = rng.choice(FILL_IN), typography.list_text(pair.instruction)
        reference = f"{shown}\n\n{user}"
    image = random_page(shown, rng, size=size).pixels
    return Sample("follow", image, ((user, pair.response),), pair.done, reference)


def chat(texts: Texts, rng: random.Random) -> Sample:
    """A plain text request; the target is what the original does with it."""
    pair = texts.draw(rng)
    return Sample("chat", None, ((pair.instruction, pair.response),), pair.done, pair.instruction)


def listing(texts: Texts, rng: random.Random, *, size: int = 224) -> Sample:
    """One to six words or numbers below each other, with questions about them."""
    *lines, absent = word_columns.draw(rng.sample(texts.words, min(len(texts.words), 64)), rng.randint(2, 7), rng)
    image = random_page("\n".join(lines), rng, size=size).pixels
    asked = word_columns.questions(lines, absent, rng)
    chosen = rng.sample(asked, min(len(asked), rng.choice((1, 2, 3, 4, 4))))
    turns = [(one.question, f"{one.answer}." if one.answer in lines else sentence(one.answer)) for one in chosen]
    return Sample("words", image, tuple(turns))


def looking(rng: random.Random, *, size: int = 224) -> Sample:
    """Coloured shapes: one to four questions about the same picture, or all of it read from left to right."""
    scene = shape_scenes.random_scene(rng, most=2 if rng.random() < SIMPLE else 5)
    named = rng.random() < NAMED
    image = renditions.labelled(scene, size) if named else np.asarray(shape_scenes.render_scene(scene, size=size))
    if rng.random() < 0.2:
        return Sample("shapes", image, ((DESCRIBE, description(scene)),))
    by_topic: dict[str, list[shape_scenes.Question]] = {}
    for question in shape_scenes.questions(scene, rng):
        by_topic.setdefault(question.topic, []).append(question)
    turns: list[tuple[str, str]] = []
    for _ in range(rng.choice((1, 2, 3, 4, 4))):
        topic = rng.choices(TOPICS, _TOPIC_SHARES)[0]
        if not by_topic.get(topic):
            topic = "count"
        asked = balanced(by_topic[topic], rng)
        turn = (asked.question + (ONE_WORD if rng.random() < 0.4 else ""), sentence(asked.answer))
        if turn not in turns:
            turns.append(turn)
    return Sample("shapes", image, tuple(turns))


def balanced(asked: Sequence[shape_scenes.Question], rng: random.Random) -> shape_scenes.Question:
    """One of `asked`, every *answer* equally likely, so that `one` and `yes` are not the best guess."""
    answer = rng.choice(sorted({question.answer for question in asked}))
    return rng.choice([question for question in asked if question.answer == answer])


def description(scene: shape_scenes.ShapeScene) -> str:
    """`Red circle, blue star.`, from left to right."""
    return sentence(", ".join(f"{one.colour} {one.kind}" for one in sorted(scene.shapes, key=lambda one: one.x)))


def sentence(words: str) -> str:
    """`red` → `Red.`, the way SmolLM2 gives short answers."""
    return f"{words.capitalize()}."


def draw_sample(goal: str, texts: Texts, rng: random.Random, *, size: int = 224) -> Sample:
    """One sample of one of `GOALS`.

    Raises:
        UserError: an unknown goal.
    """
    match goal:
        case "transcribe":
            return transcription(texts, rng, size=size)
        case "follow":
            return following(texts, rng, size=size)
        case "words":
            return listing(texts, rng, size=size)
        case "shapes":
            return looking(rng, size=size)
        case "chat":
            return chat(texts, rng)
    raise UserError(f"goal {goal!r} is unknown: choose one of {', '.join(GOALS)}")
