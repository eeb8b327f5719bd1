"""Which rows are scored together: pairs by id, controls, titles, and what was not asked.

Rows of one stage matched to the prompts they belong to: all there, none extra, none twice.

Which rows are controls: the same words beside a picture that is not theirs, or without the one that is.

Readable names for suites that were given none.

What a run did not ask: the rest of a suite that a limit cut, and suites that were not available.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Protocol, TypeVar

from unsay.errors import UserError
from unsay.records import Condition, Modality, Prompt
from unsay.scoring.schema import AskedRow, Caution


class HasId(Protocol):
    """Anything with an id: responses, verdicts."""

    @property
    def id(self) -> str:
        """The prompt's id."""
        ...


Item = TypeVar("Item", bound=HasId)


def by_id(prompts: Sequence[Prompt], rows: Sequence[Item], suite: str, what: str) -> Mapping[str, Item]:
    """The rows by id, exactly one for every prompt.

    Args:
        prompts: the suite.
        rows: responses or verdicts of that suite.
        suite: its name, for the message.
        what: `responses` or `verdicts`, for the message.

    Raises:
        UserError: prompts without a row, rows without a prompt, or an id that stands twice.
    """
    wanted, found = Counter(row.id for row in prompts), Counter(row.id for row in rows)
    for counts, where in ((wanted, "prompts"), (found, what)):
        if repeated := sorted(name for name, count in counts.items() if count > 1):
            raise UserError(f"suite {suite!r}: id {repeated[0]!r} stands more than once in its {where}")
    problems = []
    if missing := sorted(wanted.keys() - found.keys()):
        problems.append(f"{len(missing)} of {len(wanted)} prompts have no row (first: {missing[0]!r})")
    if extra := sorted(found.keys() - wanted.keys()):
        problems.append(f"{len(extra)} rows belong to no prompt (first: {extra[0]!r})")
    if problems:
        raise UserError(f"suite {suite!r}: {what} do not match its prompts: {'; '.join(problems)}; rerun that stage")
    return {row.id: row for row in rows}


class Shown(Protocol):
    """Anything that says what was shown beside the words: prompts, rows of scores, changes."""

    @property
    def modality(self) -> Modality:
        """How the request reaches the model."""
        ...

    @property
    def condition(self) -> Condition:
        """What was shown."""
        ...


def is_control(row: Shown) -> bool:
    """Whether it was asked in another way than it is meant: a text suite without a picture, others with their own.

    A control has rows and a table of its own. It is pooled with nothing, for it is asked to explain another number.
    """
    return row.condition is not (Condition.NO_IMAGE if row.modality is Modality.TEXT else Condition.REAL)


def plain_title(suite: str) -> str:
    """`advbench_heldout` becomes `Advbench heldout`; a name that already holds capitals keeps them."""
    words = suite.replace("_", " ").replace("-", " ").strip()
    return words[:1].upper() + words[1:]


def unasked(asked: Iterable[AskedRow], left_out: Mapping[str, str]) -> tuple[Caution, ...]:
    """One caution for all suites that were cut, and one for all that were left out; none where nothing was.

    Args:
        asked: how much of each suite was asked.
        left_out: suite that the run's choice named and that could not be asked → why, or how to get it.
    """
    found = []
    if cut := [row for row in asked if row.cut]:
        each = [f"{row.title} {row.asked:,} of {'?' if row.size is None else f'{row.size:,}'}" for row in cut]
        limit = f" (limit {cut[0].limit:,})" if cut[0].limit is not None else ""
        said = f"Asked in part{limit}, {_suites(len(cut))}: {', '.join(each)}."
        found.append(Caution(text=f"{said} `--limit all` asks them whole."))
    if left_out:
        said = f"Not asked, for they cannot be here, {_suites(len(left_out))}: {', '.join(left_out)}."
        found.append(Caution(text=f"{said} `unsay suites` says how to get them."))
    return tuple(found)


def unseen(titles: Sequence[str], judge: str) -> tuple[Caution, ...]:
    """A severe caution where the harm of a suite lies in its pictures, and the judge reads words alone.

    Args:
        titles: of such suites, as far as they were judged.
        judge: its name.
    """
    if not titles:
        return ()
    said = f"The judge ({judge}) sees no pictures, and in {', '.join(titles)} the harm lies in the picture"
    advice = "it may take harmful answers for safe ones; a judge that sees them is `llama-guard-4`"
    return (Caution(text=f"{said}: {advice}.", severe=True),)


def _suites(count: int) -> str:
    return "1 suite" if count == 1 else f"{count} suites"
