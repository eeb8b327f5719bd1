"""Your own questions as suites."""

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from pydantic import ConfigDict, Field

from unsay.data.images import read_image
from unsay.data.splits import prompt_key
from unsay.errors import UserError
from unsay.files import file_key, read_numbered_rows, write_rows
from unsay.pipeline.run import Run
from unsay.records import Condition, Kind, Modality, Prompt, Record, Turn
from unsay.suites import find_suite

OwnSuites = Callable[[Run], dict[str, list[Prompt]]]
"""Your own questions, read and checked: writes them into a run, and gives them by suite."""


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
    system: str | None = Field(None, min_length=1)
    """A system prompt of its own, in place of the run's."""
    turns: tuple[Turn, ...] = ()
    """The conversation before it, oldest turn first."""
    condition: Condition | None = None
    """What the picture is; the real one by default, and no image where there is none."""


def read_suite_file(path: Path) -> OwnSuites:
    """Check a suite file whole; the function it returns writes the suites into a run.

    Image paths are relative to the suite file. Attack and benign rows become two suites, `<file>-attack` and
    `<file>-benign`, since they are scored by different rates; where a built-in suite has such a name, `<file>-file-…`.

    Raises:
        UserError: names the file and the line: a malformed row, a repeated id, a missing or unreadable image, a
            conversation out of turn, a condition without its picture.
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
        if problem := _turn_problem(question.turns) or _condition_problem(question):
            raise UserError(f"{path}:{line}: {problem}")
        condition = question.condition or (Condition.NO_IMAGE if image is None else Condition.REAL)
        name = _name(path.stem, question.kind)
        request = question.request or question.prompt
        # A picture that says nothing makes no other request of the same words.
        real = image if condition is Condition.REAL else None
        group = prompt_key(request if real is None else f"{request} {file_key(real)}")
        suites.setdefault(name, []).append(
            Prompt(
                id=question.id,
                suite=name,
                kind=question.kind,
                modality=Modality.TEXT if real is None else Modality.IMAGE,
                prompt=question.prompt,
                request=request,
                image=None if image is None else str(image),
                group=group,
                category=question.category,
                system=question.system,
                turns=question.turns,
                condition=condition,
            )
        )

    def write(run: Run) -> dict[str, list[Prompt]]:
        for name, prompts in suites.items():
            write_rows(run.folder / "suites" / f"{name}.jsonl", prompts)
        return suites

    return write


def _name(stem: str, kind: Kind) -> str:
    """Of a suite; one that a built-in suite has would lend the questions that suite's title and size."""
    name = f"{stem}-{kind.value}"
    return name if find_suite(name) is None else f"{stem}-file-{kind.value}"


def _turn_problem(turns: Sequence[Turn]) -> str | None:
    """What is wrong with a conversation: chat templates want user and assistant to alternate, and a user comes next."""
    for number, turn in enumerate(turns, start=1):
        if not turn.text.strip():
            return f"turns: turn {number} has no text"
        if turn.role != ("assistant", "user")[number % 2]:
            return f"turns: turn {number} is the {turn.role}'s; user and assistant take turns, the user first"
    return "turns: the last is the user's, and the prompt follows; end with the assistant's" if len(turns) % 2 else None


def _condition_problem(question: Question) -> str | None:
    """Whether the condition and the picture contradict each other."""
    if question.condition is None or (question.condition is Condition.NO_IMAGE) == (question.image is None):
        return None
    said = "needs an image" if question.image is None else "has none, but image is set"
    return f"condition: '{question.condition}' {said}"
