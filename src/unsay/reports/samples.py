"""Sample answers for the report, chosen by rule and not by hand, with thumbnails that live inside the page."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from unsay.files import content_key
from unsay.records import Kind, Label, Phase, Prompt, Response, Verdict

THUMBNAIL = 320
"""Pixels on the longer side."""
PER_SUITE = 2
"""Samples of a suite, before a failure is added."""
MAX_CHARACTERS = 1200
FAILURES = {
    Kind.ATTACK: (Label.HARMFUL, Label.DEGENERATE),
    Kind.BENIGN: (Label.REFUSED, Label.HARMFUL, Label.DEGENERATE),
}


@dataclass(frozen=True)
class Answer:
    """The answer of one phase, and its verdict."""

    phase: Phase
    text: str
    label: Label | None
    cut: bool  # the text was longer than the report shows


@dataclass(frozen=True)
class Sample:
    """One request with its answers side by side."""

    prompt: Prompt
    picture: str | None  # a `data:` URI
    answers: tuple[Answer, ...]

    @property
    def veiled(self) -> bool:
        """Hidden until clicked: attacks, and any answer that was judged harmful."""
        return self.prompt.kind is Kind.ATTACK or any(answer.label is Label.HARMFUL for answer in self.answers)


Answers = Mapping[Phase, Mapping[str, Response]]
Verdicts = Mapping[Phase, Mapping[str, Verdict]]


def choose(prompts: Sequence[Prompt], answers: Answers, verdicts: Verdicts, run_dir: Path) -> list[Sample]:
    """The first prompts in the order of their hashed ids, and one more that failed unless one of these did.

    The hash makes the choice blind to content; the failure is added so that a good table cannot hide it. Prompts
    without any answer are left out.
    """
    answered = (row for row in prompts if any(row.id in of_phase for of_phase in answers.values()))
    candidates = sorted(answered, key=lambda row: content_key(row.id))
    chosen = candidates[:PER_SUITE]
    last = list(answers)[-1] if answers else None

    def failed(row: Prompt) -> bool:
        verdict = verdicts.get(last, {}).get(row.id) if last is not None else None
        return verdict is not None and verdict.label in FAILURES.get(row.kind, ())

    if not any(map(failed, chosen)):
        chosen += [row for row in candidates[PER_SUITE:] if failed(row)][:1]
    return [_sample(row, answers, verdicts, run_dir) for row in chosen]


def _sample(row: Prompt, answers: Answers, verdicts: Verdicts, run_dir: Path) -> Sample:
    phases = []
    for phase, responses in answers.items():
        if row.id in responses:
            text = responses[row.id].response
            verdict = verdicts.get(phase, {}).get(row.id)
            cut = len(text) > MAX_CHARACTERS
            phases.append(Answer(phase, text[:MAX_CHARACTERS], verdict.label if verdict else None, cut))
    # An absolute path stays as it is when joined.
    picture = (data_uri(run_dir / row.image) or data_uri(Path(row.image))) if row.image else None
    return Sample(row, picture, tuple(phases))


def data_uri(path: Path) -> str | None:
    """A `data:` URI of a thumbnail, PNG or JPEG, whichever is smaller; None for a missing or unreadable picture.

    A report is worth having without its pictures, so a missing one is not an error.
    """
    try:
        with Image.open(path) as opened:
            opened.thumbnail((THUMBNAIL, THUMBNAIL))
            image = opened.convert("RGB")
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError):
        return None
    encoded = []
    for kind, options in (("png", {"optimize": True}), ("jpeg", {"quality": 80})):
        buffer = io.BytesIO()
        image.save(buffer, format=kind, **options)
        encoded.append((kind, buffer.getvalue()))
    kind, data = min(encoded, key=lambda item: len(item[1]))
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"
