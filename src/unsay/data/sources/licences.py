"""Licences of data sets, and what each of them forbids to do with a set and what is made of it."""

from dataclasses import dataclass
from enum import StrEnum


class Forbidden(StrEnum):
    """What a licence does not allow."""

    COMMERCIAL = "commercial use"
    REDISTRIBUTION = "redistribution"


@dataclass(frozen=True)
class Licence:
    """The terms under which a data set is published.

    Attributes:
        name: as its authors write it.
        forbids: what they do not allow; where they state no terms, nothing beyond reading is allowed.
    """

    name: str
    forbids: tuple[Forbidden, ...] = ()


APACHE = Licence("Apache-2.0")
MIT = Licence("MIT")
CC_BY = Licence("CC BY 4.0")
CC_BY_NC = Licence("CC BY-NC 4.0", (Forbidden.COMMERCIAL,))
RESEARCH = Licence("research only", (Forbidden.COMMERCIAL, Forbidden.REDISTRIBUTION))
UNSTATED = Licence("none stated", (Forbidden.REDISTRIBUTION,))
