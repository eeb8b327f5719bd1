"""The suites of a run: its choice of packaged ones, and the user's own from a suite file."""

import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, TypeAlias, TypeVar

from pydantic import ConfigDict, Field

from unsay.data.pictures import read_image
from unsay.data.published import Published, data_dir
from unsay.data.splits import prompt_key
from unsay.errors import UserError
from unsay.files import file_key, read_numbered_rows, read_rows, write_rows
from unsay.records import Condition, Example, Kind, Modality, Prompt, Record, Turn
from unsay.run.directory import Run, absolute_image, relative_image
from unsay.stages import Spent
from unsay.suites import GROUPS, STANDARD, SUITES, Setting, Suite, find_suite, get_suite, suites_key
from unsay.suites.base import GRADER

ALL = "all-available"
"""In a list of suites: every suite of the registry that can be run here, without a network."""

NEEDS_MODEL = "needs the model itself, a server cannot do it"

Suites: TypeAlias = dict[str, list[Prompt]]
"""The prompts of a run by suite; image paths open from here."""


def select_suites(names: Sequence[str], judge: str | None = None) -> list[Suite]:
    """The suites of these names and groups (`all-available`: every one that can be run here); else the standard ones.

    The configured judge may decide what can be run: a suite whose score needs another one is a `UserError`.
    """
    selected: dict[str, Suite] = {}
    for name in names or [suite.name for suite in STANDARD if suite.missing(judge) is None]:
        some = [row for row in SUITES.values() if row.missing(judge) is None] if name == ALL else _named(name)
        for suite in some:
            if suite.grade is not None and judge is not None and judge != GRADER:
                raise UserError(f"suite '{suite.name}': {suite.missing(judge)}")
            selected[suite.name] = suite
    return list(selected.values())


def requested_suites(names: Sequence[str]) -> list[Suite]:
    """The suites of these names, whether or not they can be run here; without names, the standard ones."""
    if not names:
        return list(STANDARD)
    suites = (suite for name in names for suite in (SUITES.values() if name == ALL else _named(name)))
    return list({suite.name: suite for suite in suites}.values())


def _named(name: str) -> Sequence[Suite]:
    """The suites that one name stands for."""
    return GROUPS[name] if name in GROUPS else [get_suite(name)]


def unavailable_suites(names: Sequence[str], judge: str | None = None) -> dict[str, str]:
    """The suites that `select_suites` leaves out because they cannot be run here → how to get them."""
    wanted = SUITES.values() if ALL in names else () if names else STANDARD
    return {
        suite.name: missing
        for suite in wanted
        if suite.name not in names and (missing := suite.missing(judge)) is not None
    }


def build_suites(run: Run, user_suites: Suites | None = None, *, standard: bool = True) -> Suites:
    """Make the prompts of the packaged suites that the settings name, and of the user's; writes `suites/`.

    Suites that cannot be run here are noted in `run.left_out`; if the settings name one, it is a `UserError`. In the
    files, image paths are relative to the run directory, so that it can be moved. `standard` takes the standard suites
    if the settings name none.
    """
    suites = _packaged_suites(run) if standard or run.config.evaluation.suites else {}
    for name, prompts in (user_suites or {}).items():
        write_rows(run.folder / "suites" / f"{name}.jsonl", prompts)
        suites[name] = prompts
    return _answerable(run, suites)


def _packaged_suites(run: Run) -> Suites:
    chosen, limit = run.config.evaluation.suites, run.config.evaluation.limit
    suites = select_suites(chosen, run.config.evaluation.judge)
    run.left_out.update(unavailable_suites(chosen, run.config.evaluation.judge))
    paths = {suite.name: run.folder / "suites" / f"{suite.name}.jsonl" for suite in suites}
    images = run.folder / "suites" / "images"

    def work(_spent: Spent) -> Suites:
        shutil.rmtree(images, ignore_errors=True)  # an edited picture must not pass for a fresh one
        built = {}
        for done, suite in enumerate(suites, start=1):
            prompts = suite.prompts(Setting(images, limit))
            if not prompts:
                raise UserError(f"suite '{suite.name}': no prompts at a limit of {limit}: raise it, or leave it out")
            rows = [relative_image(run.folder, prompt) for prompt in prompts]
            write_rows(paths[suite.name], rows)
            built[suite.name] = [absolute_image(run.folder, row) for row in rows]
            run.stages.progress.update(done, len(suites), suite.title)
        return built

    def load() -> Suites:
        return {
            name: [absolute_image(run.folder, row) for row in read_rows(path, Prompt)] for name, path in paths.items()
        }

    def outputs(built: Suites) -> list[Path]:
        pictures = {Path(row.image) for prompts in built.values() for row in prompts if row.image is not None}
        return [*paths.values(), *sorted(path for path in pictures if path.is_relative_to(run.folder))]

    inputs = [
        limit,
        str(data_dir()),
        suites_key(suites),
        {file.path: file.fingerprint for suite in suites for file in suite.files if isinstance(file, Published)},
    ]
    return run.stages.run("suites", "Build the test suites", inputs, outputs, work, load=load, total=len(suites))


def _answerable(run: Run, suites: Suites) -> Suites:
    """The suites that the run's responder can answer: a server gives no likelihoods."""
    if run.config.evaluation.responder is None:
        return suites
    likelihood = [name for name in suites if (suite := find_suite(name)) is not None and suite.likely]
    if named := [name for name in likelihood if name in run.config.evaluation.suites]:
        raise UserError(f"suite '{named[0]}': {NEEDS_MODEL}; leave it out")
    run.left_out.update(dict.fromkeys(likelihood, NEEDS_MODEL))
    return {name: prompts for name, prompts in suites.items() if name not in likelihood}


class Question(Record):
    """One row of a suite file."""

    model_config = ConfigDict(extra="forbid", frozen=True, coerce_numbers_to_str=True)

    id: str = Field(min_length=1)
    prompt: str = Field(min_length=1)
    image: str | None = None
    kind: Literal[Kind.ATTACK, Kind.BENIGN]
    # The request in words, where the picture makes it; a judge reads this. The prompt itself by default.
    request: str | None = None
    category: str | None = None
    system: str | None = Field(None, min_length=1)  # a system prompt that replaces the run's
    turns: tuple[Turn, ...] = ()  # the conversation before the prompt, oldest turn first
    # What the image shows; by default `real image`, or `no image` where there is none.
    condition: Condition | None = None


UserRow = TypeVar("UserRow", Example, Question)


def read_user_rows(path: Path, row_type: type[UserRow], what: str) -> list[tuple[int, UserRow]]:
    """The rows of a user's JSONL file with their lines; image paths are relative to the file, and returned absolute.

    A `UserError` names the file and the line: malformed, a repeated id, a missing or unreadable image.
    """
    rows: dict[str, tuple[int, UserRow]] = {}
    for line, row in read_numbered_rows(path, row_type):
        if row.id in rows:
            raise UserError(f"{path}:{line}: id: an earlier row has the same one")
        if row.image is not None:
            row = row.model_copy(update={"image": os.path.abspath(path.parent / row.image)})
            try:
                read_image(str(row.image))
            except UserError as error:
                raise UserError(f"{path}:{line}: image: {error}") from None
        rows[row.id] = line, row
    if not rows:
        raise UserError(f"{path}: holds no {what}")
    return list(rows.values())


def read_suite_file(path: Path) -> Suites:
    """Read the user's own suites from a JSONL file of `Question` rows, whose image paths are relative to it.

    Attack and benign rows are scored by different rates and become two suites, `<file>-attack` and `<file>-benign`;
    if a packaged suite has that name, `<file>-file-…`.
    """
    suites: Suites = {}
    for line, question in read_user_rows(path, Question, "questions"):
        if problem := _turn_problem(question.turns) or _condition_problem(question):
            raise UserError(f"{path}:{line}: {problem}")
        image = question.image
        condition = question.condition or (Condition.NO_IMAGE if image is None else Condition.REAL)
        name = _suite_name(path.stem, question.kind)
        request = question.request or question.prompt
        # A blank or unrelated picture does not change the request.
        real = image if condition is Condition.REAL else None
        group = prompt_key(request if real is None else f"{request} {file_key(Path(real))}")
        suites.setdefault(name, []).append(
            Prompt(
                **question.model_dump(exclude={"request", "condition"}),
                suite=name,
                modality=Modality.TEXT if real is None else Modality.IMAGE,
                request=request,
                group=group,
                condition=condition,
            )
        )
    return suites


def _suite_name(stem: str, kind: Kind) -> str:
    """A name that no packaged suite has: the questions would get that suite's title and size."""
    name = f"{stem}-{kind.value}"
    return name if find_suite(name) is None else f"{stem}-file-{kind.value}"


def _turn_problem(turns: Sequence[Turn]) -> str | None:
    """What is wrong with a conversation: in chat templates user and assistant alternate, and the prompt comes next."""
    for number, turn in enumerate(turns, start=1):
        if not turn.text.strip():
            return f"turns: turn {number} has no text"
        if turn.role != ("assistant", "user")[number % 2]:
            return f"turns: turn {number} is the {turn.role}'s; user and assistant take turns, the user first"
    return "turns: the last is the user's, and the prompt follows; end with the assistant's" if len(turns) % 2 else None


def _condition_problem(question: Question) -> str | None:
    """How the condition and the image contradict each other."""
    if question.condition is None or (question.condition is Condition.NO_IMAGE) == (question.image is None):
        return None
    problem = "needs an image" if question.image is None else "has none, but image is set"
    return f"condition: '{question.condition}' {problem}"
