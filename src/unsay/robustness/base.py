"""What a check is."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from unsay.scoring.robustness import Number

if TYPE_CHECKING:
    from unsay.robustness.bench import Bench


@dataclass(frozen=True)
class Check:
    """One attack, or one family of them.

    Attributes:
        name: how it is called on the command line and in files.
        title: how it is called in reports.
        setting: what is done, in a few words; for the list in the docs.
        source: the paper that the setting is from.
        version: raised by hand when the same run would get other numbers.
        run: attacks both subjects: measures through the bench, which keeps every outcome, and returns the numbers that
            sum the check up.
        quick: whether it belongs to the quick battery.
        axis: the part of the setting along which outcomes form a curve, as `steps`; empty for none.
        cuts_answers: whether it reads training examples, cut as the run's training cut them.
        possible: names what can be done here and not everywhere: optional tools that are installed, training for which
            there is memory. Each adds settings, so with others the check is done again; what it has measured is kept.
    """

    name: str
    title: str
    setting: str
    source: str
    version: int
    run: "Callable[[Bench], Iterable[Number]]"
    quick: bool = False
    axis: str = ""
    cuts_answers: bool = False
    possible: "Callable[[Bench], tuple[str, ...]]" = lambda _bench: ()
