"""Sets that are trained on and asked, as (train, held out): AdvBench, the contrast and plain prompts, and Magpie.

The side of a prompt is decided by its text alone. The train half holds no near duplicate of a prompt that is held out.
"""

from collections.abc import Callable
from functools import cache

from unsay.data.sources import shipped, wheels
from unsay.data.splits import drop_copies, prompt_key, split
from unsay.records import SourceRow

Halves = tuple[list[SourceRow], list[SourceRow]]
"""(train, held out)."""


def advbench() -> Halves:
    """AdvBench's goals: half and half."""
    return _halves(wheels.advbench, "advbench", 0.5)


def magpie() -> Halves:
    """Magpie."""
    return _halves(shipped.magpie, "magpie", 0.01)


def plain() -> Halves:
    """The everyday requests."""
    return _halves(shipped.plain, "plain", 0.2)


def contrast() -> Halves:
    """The contrast prompts."""
    return _halves(shipped.contrast, "contrast", 0.15)


def harmful_requests() -> list[SourceRow]:
    """The harmful requests of the pinned wheels that may be trained on, none of them a near copy of an earlier one.

    None is a near copy of a prompt that is held out in any run: AdvBench's other half, HarmBench, Do-Not-Answer, and
    the public suites, whose copies are known by their keys, so that the suites need not be at hand.
    """
    return list(_kept_requests())


@cache
def _kept_requests() -> tuple[SourceRow, ...]:
    train, held_out = advbench()
    copies = shipped.public_copies()
    rows = [*train, *(row for source in wheels.HARMFUL for row in source())]
    clear = [row for row in rows if prompt_key(row.text) not in copies]
    return tuple(drop_copies(clear, held_out, wheels.harmbench(), wheels.do_not_answer()))


def _halves(read: Callable[[], list[SourceRow]], salt: str, test_share: float) -> Halves:
    train, held_out = _kept_halves(read, salt, test_share)
    return list(train), list(held_out)


@cache
def _kept_halves(
    read: Callable[[], list[SourceRow]], salt: str, test_share: float
) -> tuple[tuple[SourceRow, ...], tuple[SourceRow, ...]]:
    """Thousands of rows, which several suites of a run and its training data share."""
    train, held_out = split(read(), salt=salt, test_share=test_share)
    return tuple(train), tuple(held_out)
