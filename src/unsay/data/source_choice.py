"""Which sources a role learns from: the settings, and the rows of these sources that no suite asks."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

from unsay.data.published import FormatError
from unsay.data.sources import SOURCES, Source, Split, get_source
from unsay.data.splits import OverlapIndex, prompt_key
from unsay.data.subjects import with_subjects
from unsay.errors import UserError
from unsay.files import content_key
from unsay.records import Kind, Prompt, Role, SourceRow


class SourceChoice(BaseModel):
    """One source of a role; its name alone takes all of it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    source: str = Field(description="its name; `unsay sources` lists them")
    rows: int | None = Field(None, ge=1, description="requests of it, sampled by seed; null takes all")
    split: str | None = Field(None, description="which part of it; null takes the first that serves the role")
    weight: float | None = Field(
        None,
        gt=0,
        description="its share of the role's rows in a step, beside the weights of the role's other sources; null in "
        "all of them draws every row alike",
    )

    @model_validator(mode="before")
    @classmethod
    def _by_name(cls, given: Any) -> Any:
        return {"source": given} if isinstance(given, str) else given


Choices = tuple[SourceChoice, ...]


def check_choices(role: Role, choices: Choices) -> None:
    """Assert that the sources of a role exist and serve it, each once, and that all or none of them have a weight.

    Raises:
        UserError: what is wrong, with the names that there are.
    """
    chosen = Counter(f"{choice.source}, {_split_name(role, choice)}" for choice in choices)
    if twice := next((name for name, count in chosen.items() if count > 1), None):
        raise UserError(f"data.{role.value}: {twice}: is named twice; give its rows and weight in one place")
    weighted = sum(choice.weight is not None for choice in choices)
    if 0 < weighted < len(choices):
        without = next(choice.source for choice in choices if choice.weight is None)
        raise UserError(
            f"data.{role.value}: {without}: has no weight, others have one: give all of them a weight or none"
        )
    names = Counter(choice.source for choice in choices)
    if weighted and (several := next((name for name, count in names.items() if count > 1), None)):
        raise UserError(f"data.{role.value}: {several}: weights go by source, and two of its splits are named")


def weights(choices: Choices) -> dict[str, float] | None:
    """The weight of each source; None where rows are drawn alike."""
    given = {choice.source: choice.weight for choice in choices if choice.weight is not None}
    return given or None


def chosen_sources(*lists: Choices) -> list[Source]:
    """The sources of all lists, each once."""
    return list({choice.source: get_source(choice.source) for choices in lists for choice in choices}.values())


def choices_key(role: Role, choices: Choices) -> list[object]:
    """What decides the rows of these choices: the settings, the versions of the sources, and their files."""
    return [
        [choice.model_dump(mode="json"), get_source(choice.source).version, [file.fingerprint for file in split.files]]
        for choice in choices
        for split in (_split(role, choice),)
    ]


@dataclass
class ChosenRows:
    """The rows of a role.

    Attributes:
        rows: in the order of the settings, each request once.
        dropped: source → suite → requests that were dropped because the suite asks them, or nearly.
    """

    rows: list[SourceRow] = field(default_factory=list)
    dropped: dict[str, Counter[str]] = field(default_factory=dict)


def choose_rows(
    role: Role,
    choices: Choices,
    suites: Mapping[str, Sequence[Prompt]],
    seed: int,
    categories: Sequence[str] | None = None,
) -> ChosenRows:
    """Read the sources of a role, keep clear of what the suites ask, and sample the wanted number of requests.

    Samples of one seed are nested, and a source's sample does not depend on the other sources, unless those before it
    have some of its requests.

    Args:
        role: what the rows will teach.
        choices: from the settings.
        suites: prompts of every suite that will be asked, by its name.
        seed: of the samples.
        categories: only requests of these; None takes all.

    Raises:
        UserError: a source that cannot be read here or is in another format, fewer rows than asked for, no row that no
            suite asks, or an unknown category.
    """
    asked = {name: OverlapIndex(prompt.request for prompt in prompts) for name, prompts in _telling(suites).items()}
    chosen, seen = ChosenRows(), set[str]()
    known: set[str] = set()
    for choice in choices:
        source, split = get_source(choice.source), _split(role, choice)
        rows = _read(split)
        if categories is not None:
            known |= {row.category for row in rows if row.category is not None}
            rows = [row for row in rows if row.category in categories]
            if not rows:
                continue
        fresh: dict[str, SourceRow] = {}
        for row in rows:
            if (key := _row_key(row)) not in seen:
                fresh.setdefault(key, row)
        clear, dropped = _clear(list(fresh.values()), choice.rows, seed, asked)
        if dropped:
            chosen.dropped.setdefault(source.name, Counter()).update(dropped)
        _check_enough(role, choice, len(rows), len(fresh), len(clear), dropped)
        seen.update(map(_row_key, clear))
        taken = [split.opened(row) for row in clear]
        chosen.rows += with_subjects(taken) if role is not Role.RETAIN or source.borderline else taken
    if unknown := next((name for name in categories or () if name not in known), None):
        raise UserError(f"data.recipe.categories: no requests of '{unknown}'; there are {', '.join(sorted(known))}")
    return chosen


def describe_dropped(dropped: Mapping[str, Counter[str]]) -> str:
    """`pku_saferlhf_pairs 31 (beavertails 30, advbench 1)`."""
    parts = []
    for source, counts in dropped.items():
        suites = ", ".join(f"{suite} {count:,}" for suite, count in counts.most_common())
        parts.append(f"{source} {counts.total():,} ({suites})")
    return ", ".join(parts)


def _read(split: Split) -> list[SourceRow]:
    try:
        return list(split.read())
    except FormatError as error:
        if not split.files:
            raise
        raise UserError(
            f"{error}; this is not the published format: take a fresh copy ({split.files[0].missing}), or convert its "
            "rows with `unsay examples` and name them in data.examples"
        ) from None


def _split_name(role: Role, choice: SourceChoice) -> str:
    return get_source(choice.source).split_for(role, choice.split)


def _split(role: Role, choice: SourceChoice) -> Split:
    return SOURCES[choice.source].splits[_split_name(role, choice)]


def _telling(suites: Mapping[str, Sequence[Prompt]]) -> dict[str, Sequence[Prompt]]:
    """The suites whose requests tell prompts apart; most utility suites ask one question of many pictures."""
    return {
        name: prompts
        for name, prompts in suites.items()
        if prompts and (prompts[0].kind is not Kind.UTILITY or prompts[0].image is None)
    }


def _clear(
    rows: Sequence[SourceRow], count: int | None, seed: int, asked: Mapping[str, OverlapIndex]
) -> tuple[list[SourceRow], Counter[str]]:
    """A sample of the rows that no suite asks, in row order, and how many of those looked at each suite asks.

    Rows are looked at in the order of the sample, until there are enough; a row counts for the first suite that has it.
    """
    places = range(len(rows)) if count is None else _order(rows, seed)
    clear: list[int] = []
    dropped = Counter[str]()
    for place in places:
        if len(clear) == count:
            break
        suite = next((name for name, index in asked.items() if index.overlaps(rows[place].text)), None)
        if suite is None:
            clear.append(place)
        else:
            dropped[suite] += 1
    return [rows[place] for place in sorted(clear)], dropped


def _row_key(row: SourceRow) -> str:
    """Equal for rows that ask the same, with the same picture."""
    return prompt_key(row.text) if row.image is None else f"{prompt_key(row.text)} {row.image}"


def _check_enough(role: Role, choice: SourceChoice, rows: int, fresh: int, clear: int, dropped: Counter[str]) -> None:
    """Assert that enough rows are left: of all `rows` those that repeat none, and of these those that no suite asks."""
    where = f"data.{role.value}: {choice.source}"
    if fresh and not clear:
        suites = ", ".join(dropped)
        raise UserError(
            f"{where}: all of its {fresh:,} requests, or nearly these, will be asked ({suites}): leave these "
            "suites out (evaluation.suites), or take another source"
        )
    if not rows:
        raise UserError(f"{where}: has no rows here: leave it out, or take another split")
    if choice.rows is not None and clear < choice.rows:
        left = f", {rows - fresh:,} of which repeat a request" if fresh < rows else ""
        left += f", {dropped.total():,} of which the suites ask" if dropped else ""
        todo = f"ask for at most {clear:,}" if clear else "leave it out"
        raise UserError(f"{where}: {choice.rows:,} rows were asked for, it has {rows:,}{left}: {todo}")


def _order(rows: Sequence[SourceRow], seed: int) -> list[int]:
    """All places, in the order in which growing samples take them."""
    keys = [content_key(seed, "requests", prompt_key(row.text), row.image) for row in rows]
    return sorted(range(len(rows)), key=keys.__getitem__)
