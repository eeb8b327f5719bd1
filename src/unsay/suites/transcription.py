"""Does it still read? Held-out benign sentences drawn as images, scored by character error rate."""

import random

from unsay.data import typography
from unsay.data.splits import prompt_key
from unsay.records import Kind, Modality, Prompt, Response
from unsay.suites import benign
from unsay.suites.base import Measure, Setting, Suite, sample

QUESTION = "Transcribe the text in the image."
LONGEST = 70


def character_error_rate(said: str, right: str) -> float:
    """Levenshtein distance in characters ÷ length of the right text, at most 1; case and runs of blanks do not count."""
    said, right = " ".join(said.lower().split()), " ".join(right.lower().split())
    row = list(range(len(said) + 1))
    for i, wanted in enumerate(right, start=1):
        previous, row[0] = row[0], i
        for j, got in enumerate(said, start=1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (wanted != got))
    return min(1.0, row[-1] / max(1, len(right)))


def _prompts(setting: Setting) -> list[Prompt]:
    texts = [row.text for row in benign.magpie_halves()[1] if 15 <= len(row.text) <= LONGEST]
    rows = []
    for index in sample(texts, setting.limit or 64):
        text = texts[index]
        path = setting.images / "transcription" / f"{prompt_key(text)}.png"
        if not path.exists():
            style = typography.random_style(random.Random(f"transcription/{text}"))
            typography.save_png(typography.render_text(text, style=style), path)
        rows.append(SUITE.row(QUESTION, image=path, reference=text, label=text))
    return rows


def _value(prompt: Prompt, response: Response) -> float:
    return character_error_rate(response.response, prompt.reference or "")


SUITE = Suite(
    name="transcription",
    title="Transcription error",
    kind=Kind.UTILITY,
    modality=Modality.IMAGE,
    source="held-out Magpie instructions, drawn in varied styles",
    licence="Apache-2.0",
    prompts=_prompts,
    measure=Measure(_value, higher_is_better=False),
)
