"""The suites of a run as files of prompts, your own questions, and overlap with training data.

The suites of a run as files of prompts, and the proof that none of them is trained on.

Your own questions as suites.
"""

import os
import shutil
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeVar

from pydantic import ConfigDict, Field

from unsay.data.pictures import pixel_key, read_image
from unsay.data.sources.published import Published, data_dir
from unsay.data.splits import OverlapIndex, prompt_key, request_of
from unsay.errors import UserError
from unsay.files import content_key, file_key, read_numbered_rows, read_rows, write_rows
from unsay.records import Condition, Example, Kind, Modality, Prompt, Record, Role, SourceRow, Turn
from unsay.run.directory import Run
from unsay.stages import Spent
from unsay.suites import STANDARD, SUITES, Setting, Suite, find_suite, get_suite, suites_key
from unsay.suites.base import GRADER

ALL = "all-available"
"""In a list of suites: every listed suite that can be run here, without a network."""

Pictured = TypeVar("Pictured", Example, Prompt)
"""A row that may have a picture."""


def select_suites(names: Sequence[str], judge: str | None = None) -> list[Suite]:
    """The suites of these names; of no names, the standard ones that can be run here.

    Args:
        names: suites; `all-available` stands for every listed one that can be run here.
        judge: the judge that is configured, where that decides what can be run.

    Raises:
        UserError: an unknown suite, or one whose score needs another judge.
    """
    selected: dict[str, Suite] = {}
    for name in names or [suite.name for suite in STANDARD if suite.missing(judge) is None]:
        some = [get_suite(name)] if name != ALL else [row for row in SUITES.values() if row.missing(judge) is None]
        for suite in some:
            if suite.grade is not None and judge is not None and judge != GRADER:
                raise UserError(f"suite '{suite.name}': {suite.missing(judge)}")
            selected[suite.name] = suite
    return list(selected.values())


def requested_suites(names: Sequence[str]) -> list[Suite]:
    """The suites of these names, whether or not they can be run here; of no names, the standard ones.

    Raises:
        UserError: an unknown suite.
    """
    if not names:
        return list(STANDARD)
    suites = (suite for name in names for suite in (SUITES.values() if name == ALL else [get_suite(name)]))
    return list({suite.name: suite for suite in suites}.values())


def unavailable_suites(names: Sequence[str], judge: str | None = None) -> dict[str, str]:
    """The suites that such a choice (see `select_suites`) leaves out, for they cannot be run here → how to get them."""
    wanted = SUITES.values() if ALL in names else () if names else STANDARD
    lines = {suite.name: suite.missing(judge) for suite in wanted if suite.name not in names}
    return {name: line for name, line in lines.items() if line is not None}


def build_suites(run: Run) -> dict[str, list[Prompt]]:
    """Write `suites/<suite>.jsonl` and the pictures of every suite of the run, and read them.

    Suites that the choice leaves out are noted in `run.left_out`. In the files, paths of pictures are relative to the
    run directory, so that it can be moved; in the prompts returned they are not.

    Raises:
        UserError: an unknown suite, one whose data is not here, or one that comes out empty.
    """
    suites = select_suites(run.config.evaluation.suites, run.config.evaluation.judge)
    run.left_out.update(unavailable_suites(run.config.evaluation.suites, run.config.evaluation.judge))
    paths = {suite.name: run.folder / "suites" / f"{suite.name}.jsonl" for suite in suites}
    images = run.folder / "suites" / "images"

    def work(spent: Spent) -> None:
        shutil.rmtree(images, ignore_errors=True)  # a picture that was edited must not be taken for a fresh one
        for done, suite in enumerate(suites, start=1):
            prompts = suite.prompts(Setting(images, run.config.evaluation.limit))
            if not prompts:
                limit = run.config.evaluation.limit
                raise UserError(f"suite '{suite.name}': no prompts at a limit of {limit}: raise it, or leave it out")
            write_rows(paths[suite.name], [relative_image(run, prompt) for prompt in prompts])
            run.stages.progress.update(done, len(suites), suite.title)

    def outputs() -> list[Path]:
        rows = [row for path in paths.values() for row in _readable(path)]
        pictures = {
            run.folder / row.image for row in rows if row.image is not None and not Path(row.image).is_absolute()
        }
        return [*paths.values(), *sorted(pictures)]

    inputs = [
        run.config.evaluation.limit,
        str(data_dir()),
        suites_key(suites),
        {file.path: _content(file) for suite in suites for file in suite.files if isinstance(file, Published)},
    ]
    run.stages.run("suites", "Build the test suites", inputs, outputs, work, total=len(suites))
    return {name: [absolute_image(run, row) for row in read_rows(path, Prompt)] for name, path in paths.items()}


def _content(file: Published) -> str | None:
    """A key of a published file that is here; of a folder, every file's path, size and time of change."""
    if not file.here:
        return None
    path = file.find()
    if path.is_file():
        return file_key(path)
    inside = [(each.relative_to(path).as_posix(), each.stat()) for each in sorted(path.rglob("*")) if each.is_file()]
    return content_key([[name, about.st_size, about.st_mtime_ns] for name, about in inside])


def relative_image(run: Run, row: Pictured) -> Pictured:
    """The row with its picture's path relative to the run directory, if the picture is in there; else from the root."""
    if row.image is None:
        return row
    inside = Path(row.image).is_relative_to(run.folder)
    path = Path(row.image).relative_to(run.folder) if inside else Path(row.image).absolute()
    return row.model_copy(update={"image": path.as_posix()})


def outside_pictures(run: Run, prompts: Sequence[Prompt]) -> dict[str, str]:
    """Path → content key of the pictures that were not drawn for this run: others may come to lie there.

    One that is missing has none; whoever opens it says so.
    """
    paths = {Path(prompt.image) for prompt in prompts if prompt.image is not None}
    given = sorted(path for path in paths if path.is_file() and not path.is_relative_to(run.folder))
    return {str(path): file_key(path) for path in given}


def absolute_image(run: Run, row: Pictured) -> Pictured:
    """The row with a path that opens; one that is absolute stays as it is."""
    return row if row.image is None else row.model_copy(update={"image": str(run.folder / row.image)})


def _readable(path: Path) -> list[Prompt]:
    try:
        return read_rows(path, Prompt)
    except UserError:
        return []  # missing or damaged: its own stamp says so


class Overlap(Record):
    """One training example that is also asked; a row of `train/overlaps.jsonl`, which holds no texts."""

    id: str
    role: Role
    suite: str
    by: Literal["request", "words in pictures", "picture"]
    """What the two have in common: the request, a text that a picture shows, or the picture itself."""


def check_disjoint(examples: Sequence[Example], suites: dict[str, list[Prompt]], listing: Path) -> None:
    """Assert that nothing is trained on that will be asked (see `find_overlaps`).

    Args:
        examples: the training examples.
        suites: prompts by suite.
        listing: where to list whatever overlaps, by id; where nothing does, the file goes.

    Raises:
        UserError: says how many overlap with which suites; no text is repeated.
    """
    found = find_overlaps(examples, suites)
    if not found:
        listing.unlink(missing_ok=True)
        return
    write_rows(listing, found)
    raise UserError(
        f"{len({row.id for row in found}):,} of {len(examples):,} training examples overlap with questions that will "
        f"be asked ({overlap_summary(found)}); their ids are in {listing}: {_remedy({row.suite for row in found})}"
    )


def _remedy(suites: set[str]) -> str:
    """What to do about overlaps with these suites; `unsay examples` knows those alone that are built in."""
    if any(find_suite(suite) is None for suite in suites):
        return (
            "remove the rows with these ids from data.examples, or what they repeat from the questions (--suite-file, "
            "evaluation.suites)"
        )
    names = ",".join(sorted(suites))
    return (
        f"remove these rows (`unsay examples --drop-overlaps --suites {names}` does), or leave the suites out "
        "(evaluation.suites)"
    )


def overlap_summary(found: Iterable[Overlap]) -> str:
    """How many examples overlap with each suite, the most first: `advbench 190, benign 22`."""
    counts = Counter(row.suite for row in found).most_common()
    return ", ".join(f"{suite} {count:,}" for suite, count in counts)


def find_overlaps(examples: Sequence[Example], suites: Mapping[str, Sequence[Prompt]]) -> list[Overlap]:
    """Every example whose prompt is, or is nearly, a prompt of a suite, or whose picture is one; once for each suite.

    Utility suites that ask one and the same question of many pictures are left out: their prompts say nothing. The
    words that stand in their pictures are looked for in training pictures instead.
    """
    pictured = [example for example in examples if example.image is not None]
    keys = [pixel_key(read_image(str(example.image))) for example in pictured]
    overlapping: dict[tuple[str, str], Overlap] = {}

    def note(rows: Iterable[Example], suite: str, by: Literal["request", "words in pictures", "picture"]) -> None:
        for row in rows:
            overlapping.setdefault((suite, row.id), Overlap(id=row.id, role=row.role, suite=suite, by=by))

    for suite, prompts in suites.items():
        known = find_suite(suite)
        likelihood = known is not None and known.likely
        if prompts and (prompts[0].kind is not Kind.UTILITY or likelihood):
            note(_near(examples, (prompt.request for prompt in prompts)), suite, "request")
        if pictured:
            note(_near(pictured, (row.text for row in words_in_pictures(prompts))), suite, "words in pictures")
            shown = {pixel_key(read_image(prompt.image)) for prompt in prompts if prompt.image is not None}
            same = [example for example, key in zip(pictured, keys, strict=True) if key in shown]
            note(same, suite, "picture")
    return list(overlapping.values())


def words_in_pictures(prompts: Iterable[Prompt]) -> list[SourceRow]:
    """The texts that utility pictures show: right answers of several words."""
    return [
        SourceRow(text=prompt.reference, source=prompt.suite)
        for prompt in prompts
        if prompt.image is not None and prompt.reference is not None and " " in prompt.reference.strip()
    ]


def _near(examples: Sequence[Example], texts: Iterable[str]) -> list[Example]:
    """The examples whose request is, or is nearly, one of the texts."""
    index = OverlapIndex(texts)
    return [example for example in examples if index.overlaps(request_of(example))]


UserSuites = Callable[[Run], dict[str, list[Prompt]]]
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


def read_suite_file(path: Path) -> UserSuites:
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
