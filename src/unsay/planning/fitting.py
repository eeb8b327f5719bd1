"""What would make a training fit that does not: the ways that `training.failures` names, what costs least first."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

from unsay.config import RunConfig
from unsay.errors import UserError
from unsay.planning.estimate import Plan

TURNS = {1: "", 2: "half as much", 4: "a quarter", 8: "an eighth"}
"""Turns in which a batch is computed → how much of it is in memory at a time."""
PARTS = (2, 4)
"""What answers are shortened to at last: a half, a quarter."""


@dataclass(frozen=True)
class Fit:
    """Settings with which a training fits.

    Attributes:
        config: the run's settings, changed.
        changes: what was changed, and what that costs.
        plan: what it takes then.
    """

    config: RunConfig
    changes: tuple[str, ...]
    plan: Plan


Planned = Callable[[RunConfig, int], Plan]
"""Plans settings, and the tokens of an answer, for cards and lengths that stay the same."""


def first_that_fits(config: RunConfig, answer: int, planned: Planned) -> Fit | None:
    """The first combination with which training fits, by the formula of `plan`; None if none does.

    In this order: more turns; also activations computed again; also 4 bits; all of these and shorter answers.

    Args:
        config: a run's settings that do not fit.
        answer: tokens of an answer.
        planned: plans other settings for the same cards.
    """
    for way in _ways(config, answer):
        changed = way.applied(config)
        try:
            made = planned(changed, way.answer)
        except UserError:
            continue  # rows that do not divide into so many turns, or 4 bits on a model that is split
        if made.fits:
            return Fit(changed, way.words(config), made)
    return None


@dataclass(frozen=True)
class _Way:
    """One combination; `turns` is a factor, `answer` in tokens."""

    turns: int
    recompute: bool
    four_bits: bool
    answer: int
    shorter: bool = False

    def applied(self, config: RunConfig) -> RunConfig:
        train: dict[str, object] = {"accumulate": config.train.accumulate * self.turns, "recompute": self.recompute}
        if self.shorter:
            train["max_answer_tokens"] = self.answer
        changed = {"train": config.train.model_copy(update=train)}
        if not self.four_bits:
            return config.model_copy(update=changed)
        packed = config.model_settings.model_copy(update={"quantisation": "4-bit"})
        return config.model_copy(update={**changed, "model_settings": packed})

    def words(self, config: RunConfig) -> tuple[str, ...]:
        """As `training.failures.advice` has them."""
        said = []
        if self.turns > 1:
            turns = config.train.accumulate * self.turns
            said.append(f"train.accumulate: {turns} ({TURNS[self.turns]} at a time, the same result)")
        if self.recompute and not config.train.recompute:
            said.append("train.recompute: true (a third more work)")
        if self.four_bits and config.model_settings.quantisation is None:
            said.append("model_settings.quantisation: 4-bit")
        if self.shorter:
            said.append(f"train.max_answer_tokens: {self.answer} (longer answers are cut)")
        return tuple(said)


def _ways(config: RunConfig, longest: int) -> Iterator[_Way]:
    """What is done already stays done; `longest` is an answer's tokens."""
    again = (True,) if config.train.recompute else (False, True)
    packed = (True,) if config.model_settings.quantisation else (False, True)
    for four_bits in packed:
        for recompute in again:
            for turns in TURNS:
                yield _Way(turns, recompute, four_bits, longest)
    for part in PARTS:
        if longest >= part:
            for turns in reversed(TURNS):
                yield _Way(turns, True, True, longest // part, shorter=True)
