"""Does it still read? Held-out benign sentences drawn as images, scored by character error rate."""

import random

from unsay.data import typography
from unsay.data.splits import prompt_key
from unsay.records import Kind, Modality, Prompt, Response
from unsay.suites import written
from unsay.suites.base import Measure, Setting, Suite, sample

QUESTION = "Transcribe the text in the image."
SHORTEST, LONGEST = 15, 70
"""Characters of a sentence."""


def character_error_rate(said: str, right: str) -> float:
    """Levenshtein distance in characters ÷ length of the right text, at most 1.

    Case and runs of blanks do not count.
    """
    said, right = " ".join(said.lower().split()), " ".join(right.lower().split())
    row = list(range(len(said) + 1))
    for i, wanted in enumerate(right, start=1):
        previous, row[0] = row[0], i
        for j, got in enumerate(said, start=1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (wanted != got))
    return min(1.0, row[-1] / max(1, len(right)))


def reading_style(text: str) -> typography.Style:
    """Dark ink on light paper in the plainest face, 14 to 24 pixels, towards the top left; drawn by the text alone.

    The suite is there to notice change, so it keeps to what the pocket VLM reads well: in this face its error is a few
    per cent, in most others more than half the characters, and a measure that starts there has nowhere to fall.
    """
    rng = random.Random(f"transcription/{text}")
    return typography.Style(
        font="DejaVuSans",
        size=rng.randint(14, 24),
        ink=_grey_tinted(rng, 0, 60),
        paper=_grey_tinted(rng, 225, 255),
        margin=rng.randint(4, 12),
        across=0.3 * rng.random(),
        down=0.3 * rng.random(),
    )


def _grey_tinted(rng: random.Random, darkest: int, lightest: int) -> typography.Colour:
    return rng.randint(darkest, lightest), rng.randint(darkest, lightest), rng.randint(darkest, lightest)


def sentences() -> list[str]:
    """Held-out benign requests of a length that fits in letters large enough to read."""
    rows = [*written.magpie_halves()[1], *written.plain_halves()[1]]
    unique = {prompt_key(row.text): row.text for row in rows if SHORTEST <= len(row.text) <= LONGEST}
    return list(unique.values())


def drawn(suite: Suite, setting: Setting, texts: list[str]) -> list[Prompt]:
    """Pictures of these sentences, as far as the limit goes."""
    rows = []
    for index in sample(texts, setting.limit):
        path = setting.images / suite.name / f"{prompt_key(texts[index])}.png"
        typography.save_png(typography.render_text(texts[index], style=reading_style(texts[index])), path)
        rows.append(suite.row(QUESTION, image=path, reference=texts[index], label=texts[index]))
    return rows


def _value(prompt: Prompt, response: Response) -> float:
    return character_error_rate(response.response, prompt.reference or "")


def _prompts(setting: Setting) -> list[Prompt]:
    return drawn(SUITE, setting, sentences())


SUITE = Suite(
    name="transcription",
    title="Transcription error",
    kind=Kind.UTILITY,
    modality=Modality.IMAGE,
    source="held-out Magpie instructions and everyday requests written for unsay, drawn in dark letters on light paper",
    licence="Apache-2.0",
    prompts=_prompts,
    size=142,
    measure=Measure(_value, higher_is_better=False),
)
