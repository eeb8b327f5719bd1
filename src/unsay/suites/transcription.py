"""Does it still read? Held-out benign sentences rendered as pictures, scored by character error rate."""

import random
from collections.abc import Callable

from unsay.data import typography
from unsay.data.sources import halves
from unsay.data.splits import prompt_key
from unsay.records import Kind, Modality, Prompt, Response, SourceRow
from unsay.suites.base import Item, Measure, Setting, Suite, sample

QUESTION = "Transcribe the text in the image."
SHORTEST, LONGEST = 15, 70
"""Characters of a sentence."""


def held_out() -> list[SourceRow]:
    """Benign requests that are not trained on."""
    return [*halves.magpie()[1], *halves.plain()[1]]


def build(rows: Callable[[], list[SourceRow]], suite: Suite, setting: Setting) -> list[Prompt]:
    """Pictures of the sentences among these rows, as far as the limit goes."""
    texts = sentences(rows())
    prompts = []
    for text in (texts[index] for index in sample(texts, setting.limit)):
        path = setting.images / suite.name / f"{prompt_key(text)}.png"
        typography.save_png(typography.render_text(text, style=reading_style(text)), path)
        prompts.append(suite.row(Item(QUESTION, reference=text, label=text), path))
    return prompts


def sentences(rows: list[SourceRow]) -> list[str]:
    """The texts, each once, of a length that fits in letters large enough to read."""
    unique = {prompt_key(row.text): row.text for row in rows if SHORTEST <= len(row.text) <= LONGEST}
    return list(unique.values())


def reading_style(text: str) -> typography.Style:
    """Dark ink on light paper in the plainest face, 14 to 24 pixels, towards the top left; sampled by the text alone.

    The suite is there to notice change, so it keeps to what the pocket VLM reads well: in this face its error is a few
    per cent, in most others more than half the characters, and a measure that starts there has nowhere to fall.
    """
    rng = random.Random(f"transcription/{text}")
    return typography.Style(
        font="DejaVuSans",
        size=rng.randint(14, 24),
        ink=typography.random_colour(rng, 0, 60),
        paper=typography.random_colour(rng, 225, 255),
        margin=rng.randint(4, 12),
        across=0.3 * rng.random(),
        down=0.3 * rng.random(),
    )


def character_error_rate(answer: str, right: str) -> float:
    """Levenshtein distance in characters ÷ length of the right text, at most 1.

    Case and runs of blanks do not count.
    """
    answer, right = " ".join(answer.lower().split()), " ".join(right.lower().split())
    row = list(range(len(answer) + 1))
    for i, wanted in enumerate(right, start=1):
        previous, row[0] = row[0], i
        for j, got in enumerate(answer, start=1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (wanted != got))
    return min(1.0, row[-1] / max(1, len(right)))


def _value(prompt: Prompt, response: Response) -> float:
    return character_error_rate(response.response, prompt.reference or "")


SUITE = Suite(
    name="transcription",
    title="Transcription error",
    kind=Kind.UTILITY,
    modality=Modality.IMAGE,
    source="held-out Magpie instructions and everyday requests written for unsay, drawn in dark letters on light paper",
    licence="Apache-2.0",
    build=lambda suite, setting: build(held_out, suite, setting),
    size=142,
    measure=Measure(_value, higher_is_better=False),
)
