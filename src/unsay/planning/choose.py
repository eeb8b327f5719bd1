"""Settings that fit a model to its cards and its launcher."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from unsay.config import RunConfig
from unsay.errors import UserError
from unsay.methods import build_method
from unsay.methods.base import Needs
from unsay.models.load import NAMED
from unsay.planning.estimate import GIB, GPUS, Plan, outline, plan
from unsay.presets import ENDS, launch_of, nearest, processes_of, settings_for
from unsay.reports.numbers import count, memory
from unsay.training import TrainSettings, plan_training

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


def memory_of_card(plan: Plan) -> str:
    """`19.18 GiB of 24.00 GiB`, for a plan with a card."""
    return f"{memory(plan.memory.total)} of {memory(plan.capacity or 0)}"


SMALL_CARD = 24 * GIB
"""A card with no more than this gets the settings of the presets `-24gb`."""


@dataclass(frozen=True)
class Choice:
    """What a run of a model starts from.

    Attributes:
        config: its settings; None for the defaults.
        reasons: why these, and what to do before they are run; a sentence or two each.
        launch: how it is launched; None where one process is enough.
    """

    config: RunConfig | None = None
    reasons: tuple[str, ...] = ()
    launch: str | None = None


def choose(model: str, gpus: tuple[int, str] | None = None, *, sharded: bool = False) -> Choice:
    """Settings by a model's family, its size and its cards; no weights are read.

    Args:
        model: `pocket`, a checkpoint folder, or a model id.
        gpus: 1 or 8 of a card; None takes the settings for one of 80 GB as they are.
        sharded: whether the layers will be split over the cards.

    Raises:
        UserError: its configuration cannot be read, there are no settings for so many cards, or none that fit.
    """
    if model in NAMED and gpus is None:
        return Choice(RunConfig(model=model), (f"The defaults are those of {model}, on a CPU.",))
    end = _end(gpus)
    vlm = outline(RunConfig(model=model))
    size = plan(RunConfig(model=model), vlm=vlm).parameters
    kind = vlm.base.config.model_type
    alike = nearest(kind, size)
    config = settings_for(model, kind, size, ENDS[end])
    family = (
        f"No preset is of its family ({kind}): settings by size alone"
        if alike is None
        else f"Settings as for its family ({kind}, preset {alike}{end}) and size"
    )
    reasons = [f"{model} has {count(size)} parameters. {family}."]
    if gpus is not None:

        def planned(config: RunConfig, answer: int) -> Plan:
            return plan(config, gpus, answer=answer, sharded=sharded, vlm=vlm)

        answer = config.train.max_answer_tokens
        made = planned(config, answer)
        fit = Fit(config, (), made) if made.fits else first_that_fits(config, answer, planned)
        if fit is None:
            raise UserError(
                f"--gpus: training {model} does not fit {_words(gpus)}, not in 4 bits either: take larger cards"
            )
        config = fit.config
        if fit.changes:
            reasons.append(f"Changed so that it fits: {'; '.join(fit.changes)}.")
        reasons.append(
            f"Training then takes {memory_of_card(fit.plan)} on each card ({_words(gpus)}), as `unsay plan` estimates; "
            "evaluation is not counted."
        )
    reasons.append("Steps and learning rate are starting points that nobody has measured: watch the report.")
    return Choice(config, tuple(reasons), launch_of(end))


def _end(gpus: tuple[int, str] | None) -> str:
    """How a preset for these cards would be called at its end."""
    if gpus is None:
        return ""
    cards, name = gpus
    if cards not in (1, 8):
        raise UserError(
            f"--gpus: there are settings for 1 and for 8 cards, not for {cards}: start from 8x{name}, and set "
            "train.batch and num_processes"
        )
    if cards == 8:
        return "-8gpu"
    return "-24gb" if GPUS[name].memory_bytes <= SMALL_CARD else ""


def _words(gpus: tuple[int, str]) -> str:
    return f"{gpus[0]}x{gpus[1]}"


def for_launch(start: Choice, launch: str, gpus: tuple[int, str] | None = None) -> Choice:
    """The same start, with steps that the launcher's processes can share.

    Args:
        start: what a run starts from.
        launch: `ddp`, `fsdp2` or `zero3`.
        gpus: the cards that `start` was made to fit, if any.

    Raises:
        UserError: 4 bits that would be split, rows that do not divide by the processes, or other cards than those.
    """
    processes = processes_of(launch)
    config = RunConfig() if start.config is None else start.config
    if gpus is not None and gpus[0] != processes:
        raise UserError(
            f"--launch {launch}: starts {processes} processes, each with a card of its own, and --gpus has "
            f"{gpus[0]}: give {processes}x{gpus[1]}, or leave --launch out"
        )
    if launch != "ddp" and config.model_settings.quantisation is not None:
        raise UserError(
            f"--launch {launch}: 4 bits (model_settings.quantisation) cannot be split over processes: take "
            "--launch ddp, or a preset without -24gb"
        )
    method = build_method(config.method, config.method_settings)
    turns = _turns(method.needs, config.train, processes)
    train = config.train.model_copy(update={"accumulate": turns})
    try:
        plan_training(method, train, processes=processes)
    except UserError as error:
        raise UserError(f"--launch {launch}: {error}") from error
    if turns == config.train.accumulate:
        return start
    reason = (
        f"train.accumulate is {turns} instead of {config.train.accumulate}: {processes} processes share the rows of a "
        "step. The result is the same."
    )
    return replace(start, config=config.model_copy(update={"train": train}), reasons=(*start.reasons, reason))


def _turns(needs: Needs, settings: TrainSettings, processes: int) -> int:
    """The most turns, up to those of the settings, into which every role's rows divide; 1 where none do."""
    for turns in range(settings.accumulate, 1, -1):
        if not any(settings.batch.of(role) % (processes * turns) for role in needs.roles):
            return turns
    return 1
