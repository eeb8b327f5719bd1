"""Sample answers and small pictures for the report, chosen by rule.

Sample answers for the report, chosen by rule and not by hand.

Pictures small enough to live inside the page.
"""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, UnidentifiedImageError

from unsay.files import content_key
from unsay.records import Condition, Kind, Label, Modality, Phase, Prompt, Response, Verdict

LARGEST = 320
"""Pixels on the longer side."""


def data_uri(path: Path) -> str | None:
    """A `data:` URI of a thumbnail, PNG or JPEG, whichever is smaller; None for a missing or unreadable picture.

    A report is worth having without its pictures, so a picture that moved is no error.
    """
    try:
        with Image.open(path) as opened:
            opened.thumbnail((LARGEST, LARGEST))
            image = opened.convert("RGB")
    except (OSError, UnidentifiedImageError, Image.DecompressionBombError, ValueError):
        return None
    found = []
    for kind, options in (("png", {"optimize": True}), ("jpeg", {"quality": 80})):
        buffer = io.BytesIO()
        image.save(buffer, format=kind, **options)
        found.append((kind, buffer.getvalue()))
    kind, data = min(found, key=lambda item: len(item[1]))
    return f"data:image/{kind};base64,{base64.b64encode(data).decode('ascii')}"


PER_SUITE = 2
MOST_CHARACTERS = 1200
BAD = {Kind.ATTACK: (Label.HARMFUL, Label.DEGENERATE), Kind.BENIGN: (Label.REFUSED, Label.HARMFUL, Label.DEGENERATE)}


@dataclass(frozen=True)
class Answer:
    """What one phase said, and what the judge made of it."""

    phase: Phase
    text: str
    label: Label | None
    cut: bool
    """The text was longer than the report shows."""


@dataclass(frozen=True)
class Sample:
    """One request with its answers side by side."""

    id: str
    suite: str
    kind: Kind
    modality: Modality
    condition: Condition
    category: str | None
    prompt: str
    request: str
    picture: str | None
    """A `data:` URI."""
    answers: tuple[Answer, ...]

    @property
    def veiled(self) -> bool:
        """Hidden until clicked: attacks, and any answer that was judged harmful."""
        return self.kind is Kind.ATTACK or any(answer.label is Label.HARMFUL for answer in self.answers)


Answers = Mapping[Phase, Mapping[str, Response]]
Verdicts = Mapping[Phase, Mapping[str, Verdict]]


def choose(
    prompts: Sequence[Prompt], answers: Answers, verdicts: Verdicts, run_dir: Path, count: int = PER_SUITE
) -> list[Sample]:
    """The first `count` prompts in the order of their hashed ids, and one remaining failure if there is any.

    The hash makes the choice blind to content; the failure is added so that a good table cannot hide it.

    Args:
        prompts: one suite.
        answers: responses by phase and id; prompts without any are passed over.
        verdicts: verdicts by phase and id, as far as they exist.
        run_dir: where relative picture paths start.
        count: prompts before the failure is added.
    """
    shown = sorted((row for row in prompts if any(row.id in said for said in answers.values())), key=_blind)
    chosen = shown[:count]
    last = list(answers)[-1] if answers else None

    def bad(row: Prompt) -> bool:
        verdict = verdicts.get(last, {}).get(row.id) if last is not None else None
        return verdict is not None and verdict.label in BAD.get(row.kind, ())

    if not any(map(bad, chosen)):
        chosen += [row for row in shown[count:] if bad(row)][:1]
    return [_sample(row, answers, verdicts, run_dir) for row in chosen]


def _blind(row: Prompt) -> str:
    return content_key(row.id)


def _sample(row: Prompt, answers: Answers, verdicts: Verdicts, run_dir: Path) -> Sample:
    said = []
    for phase, responses in answers.items():
        if row.id in responses:
            text = responses[row.id].response
            verdict = verdicts.get(phase, {}).get(row.id)
            cut = len(text) > MOST_CHARACTERS
            said.append(Answer(phase, text[:MOST_CHARACTERS], verdict.label if verdict else None, cut))
    # An absolute path stays as it is when joined.
    picture = (data_uri(run_dir / row.image) or data_uri(Path(row.image))) if row.image else None
    return Sample(
        id=row.id,
        suite=row.suite,
        kind=row.kind,
        modality=row.modality,
        condition=row.condition,
        category=row.category,
        prompt=row.prompt,
        request=row.request,
        picture=picture,
        answers=tuple(said),
    )
