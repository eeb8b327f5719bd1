"""The rows that a run learns from, before they are examples: of the named sources, or of the built-in ones."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from unsay.config import DataConfig
from unsay.data.pictures import LONGEST_REQUEST, shares
from unsay.data.recipe import choose_requests, harmful_pool
from unsay.data.source_choice import choices_key, choose_rows, chosen_sources, describe_dropped
from unsay.data.sources import Source
from unsay.data.splits import drop_overlap
from unsay.data.typography import missing_letter
from unsay.files import write_json
from unsay.records import Modality, Role, SourceRow
from unsay.run.directory import Run
from unsay.run.suites import Suites

TOO_LONG = "too long to be rendered"
NO_LETTERS = "in letters that cannot be rendered"
"""In the place of a suite: why a request was dropped."""


@dataclass(frozen=True)
class TrainingRows:
    """The rows of every role; `retain` is None where the recipe takes its own."""

    forget: list[SourceRow]
    refuse: list[SourceRow]
    retain: list[SourceRow] | None = None
    dropped: dict[Role, dict[str, Counter[str]]] = field(default_factory=dict)


def training_rows(run: Run, suites: Suites) -> TrainingRows:
    """Read the sources of every role, clear of every suite that will be asked, and say what was dropped.

    Raises:
        UserError: a source that cannot be read here, has fewer rows than asked for, or is asked entirely.
    """
    data, seed = run.config.data, run.config.seed
    if data.built_in:
        requests = harmful_requests(run, suites)
        return TrainingRows(requests, requests)
    progress = run.stages.progress
    progress.start("Read the sources of training data", None)
    dropped: dict[Role, dict[str, Counter[str]]] = {}

    def rows_of(role: Role) -> list[SourceRow]:
        categories = None if role is Role.RETAIN else data.recipe.categories
        chosen = choose_rows(role, data.choices(role), suites, seed, categories)
        kept = []
        for row in chosen.rows:
            if (why := _unreadable(row, data, role)) is None:
                kept.append(row)
            else:
                chosen.dropped.setdefault(row.source, Counter())[why] += 1
        dropped[role] = chosen.dropped
        return kept

    forget = rows_of(Role.FORGET) if data.forget else harmful_requests(run, suites)
    refuse = rows_of(Role.REFUSE) if data.refuse else forget
    retain = rows_of(Role.RETAIN) if data.retain else None
    made = TrainingRows(forget, refuse, retain, dropped)
    write_json(run.folder / "train" / "sources.json", _counts(made))
    progress.finish(describe_rows(made))
    if forbidden := terms(sources_of(data)):
        progress.start("Licences of the training data", None)
        progress.finish("; ".join(forbidden))
    return made


def harmful_requests(run: Run, suites: Suites) -> list[SourceRow]:
    """The built-in harmful requests: of every source, clear of every suite, as many as wanted."""
    data = run.config.data
    held_out = [prompt for prompts in suites.values() for prompt in prompts]
    pool = [row for row in harmful_pool() if _unreadable(row, data, Role.FORGET) != NO_LETTERS]
    return choose_requests(drop_overlap(pool, held_out), data.recipe, run.config.seed)


def describe_rows(rows: TrainingRows) -> str:
    """`forget pku_saferlhf_pairs 899; retain truthfulqa 817; dropped: pku_saferlhf_pairs 31 (beavertails 31)`."""
    parts = [f"{role} {_by_source(chosen)}" for role, chosen in _named(rows).items()]
    dropped: dict[str, Counter[str]] = {}
    for counts in rows.dropped.values():
        for source, suites in counts.items():
            dropped[source] = dropped.get(source, Counter()) | suites
    if dropped:
        parts.append(f"dropped: {describe_dropped(dropped)}")
    return "; ".join(parts)


def terms(sources: Iterable[Source]) -> list[str]:
    """What the licences of these sources forbid, one line for each source that forbids something."""
    return [
        f"{source.title} ({source.name}): {source.licence.name}, no {' and no '.join(source.licence.forbids)}"
        for source in sources
        if source.licence.forbids
    ]


def sources_of(data: DataConfig) -> list[Source]:
    """The named sources of all roles."""
    return chosen_sources(*(data.choices(role) for role in Role))


def sources_key(data: DataConfig) -> list[object]:
    """What decides the rows of the named sources: settings, versions and files; empty without named ones."""
    return [[role.value, choices_key(role, data.choices(role))] for role in Role if data.choices(role)]


def _unreadable(row: SourceRow, data: DataConfig, role: Role) -> str | None:
    """Why a row cannot be put into the modalities of its role, if one of them renders it; None where it can be."""
    mixture = data.modality if role is not Role.RETAIN or data.retain_modality is None else data.retain_modality
    if row.image is not None or Modality.TYPOGRAPHIC not in shares(mixture):
        return None
    if missing_letter(row.text) is not None:
        return NO_LETTERS
    return TOO_LONG if len(row.text) > LONGEST_REQUEST else None


def _named(rows: TrainingRows) -> dict[str, Sequence[SourceRow]]:
    named: dict[str, Sequence[SourceRow]] = {"forget": rows.forget}
    if rows.refuse is not rows.forget:
        named["refuse"] = rows.refuse
    if rows.retain is not None:
        named["retain"] = rows.retain
    return named


def _by_source(rows: Iterable[SourceRow]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in Counter(row.source for row in rows).items())


def _counts(rows: TrainingRows) -> Mapping[str, object]:
    """What `train/sources.json` holds: numbers by role, source and suite; no text."""
    return {
        "rows": {role: Counter(row.source for row in chosen) for role, chosen in _named(rows).items()},
        "dropped": {role.value: counts for role, counts in rows.dropped.items() if counts},
    }
