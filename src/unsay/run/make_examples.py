"""Make training examples from data of any usual shape: `unsay examples`."""

import os
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from unsay.data.pictures import read_image
from unsay.data.recipe import OwnAnswer
from unsay.data.row_formats import USUAL, Exchange, Fields, UnfitError, read_row
from unsay.data.sources import shipped
from unsay.data.splits import prompt_key
from unsay.errors import UserError
from unsay.files import content_key, file_key, read_text
from unsay.models.failures import reason
from unsay.models.loading import source_of
from unsay.records import Example, Role, SourceRow
from unsay.run.overlap import Overlap, find_overlaps
from unsay.run.suites import select_suites
from unsay.suites import Setting

Answering = Callable[[Role, list[SourceRow]], list[OwnAnswer]]
"""Asks a model: role and requests → its answers that fit the role."""

NAMED_LINES = 5
"""Line numbers that are named for each problem."""


@dataclass(frozen=True)
class MakeSettings:
    """How examples are made."""

    role: Role | None = None  # of rows without one
    fields: Fields = USUAL
    # Packaged refusals per request to refuse that has no answer, like `data.recipe.refusals_per_prompt`.
    refusals: int = 3
    refuse_too: bool = False  # also make refuse examples for requests to forget that have none
    skip_broken: bool = False  # leave out rows that cannot be used instead of raising an error


@dataclass
class MadeExamples:
    """The examples and what was left out; image paths are absolute."""

    examples: list[Example] = field(default_factory=list)
    repeated: int = 0  # exact duplicates that were dropped
    # Problem → the numbers of the lines that were left out because of it.
    broken: dict[str, list[int]] = field(default_factory=dict)
    asked: Counter[Role] = field(default_factory=Counter)  # requests that a model was asked
    unanswered: Counter[Role] = field(default_factory=Counter)  # how many of them gave no example


def make_examples(path: Path, making: MakeSettings, answering: Answering | None = None) -> MadeExamples:
    """Make examples from a JSONL file whose rows have any of the shapes that `read_row` knows.

    Image paths are relative to the file. `answering` answers requests to forget or retain that have no answer; without
    it such rows are broken. A `UserError` names rows that cannot be used by line, and never repeats their text.
    """
    made = MadeExamples()
    rows: list[Exchange] = []
    lines = [(number, line) for number, line in enumerate(read_text(path).split("\n"), start=1) if line.strip()]
    for number, line in lines:
        try:
            rows += [_ready(exchange, making, path.parent, answering) for exchange in read_row(line, making.fields)]
        except UnfitError as error:
            made.broken.setdefault(str(error), []).append(number)
    if made.broken and not making.skip_broken:
        wrong = len({number for numbers in made.broken.values() for number in numbers})
        raise UserError(
            f"{path}: {wrong:,} of {len(lines):,} rows cannot be used: {describe_broken(made.broken)}; fix them, or "
            "leave them out with --skip-broken"
        )
    rows = _answered(rows, made, answering)
    listed = [example for exchange in rows for example in _examples(exchange, path.name, making)]
    unique: dict[str, Example] = {}
    for example in listed:
        unique.setdefault(example.id, example)
    made.examples = list(unique.values())
    made.repeated = len(listed) - len(made.examples)
    if making.refuse_too:
        made.examples += _refusals_beside(made.examples, making)
    if not made.examples:
        raise UserError(f"{path}: its {len(lines):,} rows give no example")
    return made


def describe_broken(broken: dict[str, list[int]]) -> str:
    """The problems and their lines: `not JSON (line 3), an empty prompt (12 rows: lines 4, 5, 8, 9, 11, …)`."""
    parts = []
    for problem, lines in broken.items():
        named = ", ".join(map(str, lines[:NAMED_LINES])) + (", …" if len(lines) > NAMED_LINES else "")
        count = f"{len(lines):,} rows: " if len(lines) > NAMED_LINES else ""
        parts.append(f"{problem} ({count}line{'s' if len(lines) > 1 else ''} {named})")
    return ", ".join(parts)


def drop_overlaps(examples: Sequence[Example], suites: Sequence[str]) -> tuple[list[Example], list[Overlap]]:
    """The examples (with absolute image paths) that no suite asks, and the overlaps of the others.

    Without suites, the standard ones. Whole suites are searched, whatever a run's limit.
    """
    with tempfile.TemporaryDirectory() as folder:
        prompts = {suite.name: suite.prompts(Setting(Path(folder))) for suite in select_suites(suites)}
        overlaps = find_overlaps(examples, prompts)
    overlapping = {row.id for row in overlaps}
    return [example for example in examples if example.id not in overlapping], overlaps


def count_cut(examples: Sequence[Example], model: str, limit: int) -> Counter[Role]:
    """How many answers of each role exceed a token limit, their end counted as one token; loads only the tokenizer."""
    from transformers import AutoTokenizer

    try:
        source = source_of(model)
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=False)
        counted = tokenizer([example.answer for example in examples], add_special_tokens=False)["input_ids"]
    except (OSError, ValueError, KeyError, ImportError) as error:
        raise UserError(f"{model}: its tokenizer cannot be loaded: {reason(error)}") from error
    pairs = zip(examples, counted, strict=True)
    return Counter(example.role for example, ids in pairs if example.complete and len(ids) + 1 > limit)


def relative_to(folder: Path, examples: Sequence[Example]) -> list[Example]:
    """The examples with image paths relative to a folder.

    Links to folders are resolved first: through a link, `..` would lead elsewhere.
    """
    rows = []
    for row in examples:
        if row.image is not None:
            picture = Path(row.image)  # keeps its name if it is a link itself
            path = os.path.relpath(picture.parent.resolve() / picture.name, folder.resolve())
            row = row.model_copy(update={"image": Path(path).as_posix()})
        rows.append(row)
    return rows


def _ready(exchange: Exchange, making: MakeSettings, folder: Path, answering: Answering | None) -> Exchange:
    """A row with its role and an absolute image path; an `UnfitError` if it cannot become an example."""
    role = exchange.role or making.role
    if role is None:
        raise UnfitError("no role: give --role")
    if exchange.answer is None and role is not Role.REFUSE:
        if answering is None:
            raise UnfitError(f"no answer to {role.value}: --answer-with asks a model")
        if exchange.image is not None:
            raise UnfitError("a picture without an answer: --answer-with asks in words alone")
    if exchange.image is None:
        return replace(exchange, role=role)
    image = os.path.abspath(folder / exchange.image)
    try:
        read_image(image)
    except UserError:
        raise UnfitError("a picture that is missing or cannot be read") from None
    return replace(exchange, role=role, image=image)


def _answered(rows: list[Exchange], made: MadeExamples, answering: Answering | None) -> list[Exchange]:
    """The rows, with a model's answers where they had none; rows that it did not answer are left out."""
    answers: dict[tuple[Role, str], OwnAnswer] = {}
    for role in (Role.FORGET, Role.RETAIN):
        unanswered = (exchange for exchange in rows if exchange.role is role and exchange.answer is None)
        wanted = {prompt_key(exchange.prompt): exchange for exchange in unanswered}
        if not wanted or answering is None:
            continue
        fitting = answering(role, [SourceRow(text=exchange.prompt, source="asked") for exchange in wanted.values()])
        answers |= {(role, prompt_key(own.request)): own for own in fitting}
        made.asked[role], made.unanswered[role] = len(wanted), len(wanted) - len(fitting)
    whole = []
    for exchange in rows:
        if exchange.answer is not None or exchange.role is None or exchange.role is Role.REFUSE:
            whole.append(exchange)
        elif (own := answers.get((exchange.role, prompt_key(exchange.prompt)))) is not None:
            whole.append(replace(exchange, answer=own.answer, complete=own.complete))
    return whole


def _examples(exchange: Exchange, source: str, making: MakeSettings) -> list[Example]:
    assert exchange.role is not None  # `_ready` has seen to it
    answers = _refusals(exchange.request or exchange.prompt, making) if exchange.answer is None else [exchange.answer]
    return [
        Example(
            id=_id(exchange, answer),
            role=exchange.role,
            prompt=exchange.prompt,
            answer=answer,
            source=source,
            category=exchange.category,
            image=exchange.image,
            request=exchange.request,
            complete=exchange.complete,
        )
        for answer in answers
    ]


def _refusals(request: str, making: MakeSettings) -> list[str]:
    """Packaged refusals, sampled by the request as in the recipe of a run with seed 0."""
    known = shipped.refusals()
    return random.Random(f"0/refusal/{prompt_key(request)}").sample(known, min(making.refusals, len(known)))


def _refusals_beside(examples: Sequence[Example], making: MakeSettings) -> list[Example]:
    """Refuse examples for the requests to forget that have none."""
    refused = {(row.prompt, row.image) for row in examples if row.role is Role.REFUSE}
    forgotten = {(row.prompt, row.image): row for row in examples if row.role is Role.FORGET}
    made = []
    for key, row in forgotten.items():
        if key not in refused:
            exchange = Exchange(row.prompt, None, Role.REFUSE, row.image, row.request, row.category)
            made += _examples(exchange, row.source, making)
    return made


def _id(exchange: Exchange, answer: str) -> str:
    """A key of the content with the picture: the same row has the same id in every file."""
    picture = [] if exchange.image is None else [file_key(Path(exchange.image))]
    return f"{exchange.role}-{content_key(exchange.prompt, answer, *picture)[:12]}"
