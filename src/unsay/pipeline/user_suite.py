"""Your own questions as suites."""

import os
from collections.abc import Callable
from pathlib import Path

from pydantic import ConfigDict, Field

from unsay.data.images import read_image
from unsay.data.splits import prompt_key
from unsay.errors import UserError
from unsay.files import file_key, read_numbered_rows, write_rows
from unsay.pipeline.run import Run
from unsay.records import Kind, Modality, Prompt, Record


class Question(Record):
    """One row of a suite file."""

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)

    id: str = Field(min_length=1)
    prompt: str = Field(min_length=1)
    image: Path | None = None
    kind: Kind
    request: str | None = None
    """What is asked in words, where the picture asks it; a judge reads this. The prompt itself by default."""
    category: str | None = None


def read_suite_file(path: Path) -> Callable[[Run], dict[str, list[Prompt]]]:
    """Check a suite file whole; the function it returns writes the suites into a run.

    Image paths are relative to the suite file. Attack and benign rows become two suites, `<file>-attack` and
    `<file>-benign`, since they are scored by different rates.

    Raises:
        UserError: names the file and the line: a malformed row, a repeated id, a missing or unreadable image.
    """
    questions = read_numbered_rows(path, Question)
    if not questions:
        raise UserError(f"{path}: holds no questions")
    suites: dict[str, list[Prompt]] = {}
    seen: set[str] = set()
    for line, question in questions:
        if question.kind is Kind.UTILITY:
            raise UserError(f"{path}:{line}: kind: Input should be 'attack' or 'benign'")
        if question.id in seen:
            raise UserError(f"{path}:{line}: id: an earlier row has the same one")
        seen.add(question.id)
        image = None if question.image is None else Path(os.path.abspath(path.parent / question.image))
        if image is not None:
            try:
                read_image(image)
            except UserError as error:
                raise UserError(f"{path}:{line}: image: {error}") from None
        name = f"{path.stem}-{question.kind.value}"
        request = question.request or question.prompt
        group = prompt_key(request if image is None else f"{request} {file_key(image)}")
        suites.setdefault(name, []).append(
            Prompt(
                id=question.id,
                suite=name,
                kind=question.kind,
                modality=Modality.TEXT if image is None else Modality.IMAGE,
                prompt=question.prompt,
                request=request,
                image=None if image is None else str(image),
                group=group,
                category=question.category,
            )
        )

    def write(run: Run) -> dict[str, list[Prompt]]:
        for name, prompts in suites.items():
            write_rows(run.folder / "suites" / f"{name}.jsonl", prompts)
        return suites

    return write
