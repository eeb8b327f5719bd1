"""Rows of one stage matched to the prompts they belong to: all there, none extra, none twice."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Protocol, TypeVar

from unsay.errors import UserError
from unsay.records import Prompt


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
        UserError: prompts without a row, rows without a prompt, or a repeated id.
    """
    wanted, given = Counter(row.id for row in prompts), Counter(row.id for row in rows)
    for counts, where in ((wanted, "prompts"), (given, what)):
        if repeated := sorted(name for name, count in counts.items() if count > 1):
            raise UserError(f"suite {suite!r}: id {repeated[0]!r} stands more than once in its {where}")
    problems = []
    if missing := sorted(wanted.keys() - given.keys()):
        problems.append(f"{len(missing)} of {len(wanted)} prompts have no row (first: {missing[0]!r})")
    if extra := sorted(given.keys() - wanted.keys()):
        problems.append(f"{len(extra)} rows belong to no prompt (first: {extra[0]!r})")
    if problems:
        raise UserError(f"suite {suite!r}: {what} do not match its prompts: {'; '.join(problems)}; rerun that stage")
    return {row.id: row for row in rows}
