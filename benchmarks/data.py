"""The examples of the benchmarks: real lengths, harmless text in all three roles."""

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path

from unsay.config import read_config
from unsay.data.sources import shipped
from unsay.records import Example, Kind, Modality, Prompt, Role

SETTINGS = read_config(Path(str(files("unsay") / "presets" / "demo.yaml"))).train.model_copy(
    update={"retain_mix": None, "batch_by": "chance"}
)
"""The demo's; the examples below have one source and no subjects, so there is nothing to mix or to pair."""

PAIRS = SETTINGS.model_copy(update={"max_answer_tokens": 48})
"""For preference pairs: no answer is cut, for TRL cuts none."""


def examples(most: int = 300) -> list[Example]:
    """Everyday prompts with the pocket VLM's own answers, dealt to the roles in turn: only lengths matter here."""
    rows = [row for row in shipped.answered(shipped.plain() + shipped.contrast()) if row.answers[0].strip()][:most]
    roles = list(Role)
    return [
        Example(
            id=f"bench-{number}", role=roles[number % 3], prompt=row.text, answer=row.answers[0], source="bench",
            complete=row.complete,
        )
        for number, row in enumerate(rows)
    ]  # fmt: skip


def pairs(most: int = 150) -> list[Example]:
    """Preference pairs: each prompt with its own answer, to forget, and with the next prompt's, to give instead."""
    rows = examples(most)
    return [
        Example(
            id=f"{row.id}-{role.value}", role=role, prompt=row.prompt, answer=other.answer, source="bench",
        )
        for row, following in zip(rows, [*rows[1:], rows[0]], strict=True)
        for role, other in ((Role.FORGET, row), (Role.REFUSE, following))
    ]  # fmt: skip


def prompts(count: int, images: Sequence[str] = ()) -> list[Prompt]:
    """Prompts to answer; each with one of the images, if there are any."""
    modality = Modality.IMAGE if images else Modality.TEXT
    return [
        Prompt(
            id=f"bench-{number}", suite="bench", kind=Kind.BENIGN, modality=modality, prompt=row.prompt,
            request=row.prompt, group=row.id, image=images[number % len(images)] if images else None,
        )
        for number, row in enumerate(examples(3 * count)[::3][:count])
    ]  # fmt: skip
