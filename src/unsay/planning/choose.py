"""Settings that fit a model to its cards and its launcher."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from unsay.config import RunConfig
from unsay.errors import UserError
from unsay.methods import build_method
from unsay.methods.base import Needs
from unsay.models.loading import NAMED
from unsay.planning.estimate import GIB, GPUS, Plan, outline, plan
from unsay.presets import ENDS, launch_of, nearest, processes_of, settings_for
from unsay.reports.numbers import count, memory
from unsay.training import TrainSettings, plan_training

TURNS = {1: "", 2: "half as much", 4: "a quarter", 8: "an eighth"}
"""Turns in which a batch is computed → the part of it that is in memory at a time."""
SHORTER = (2, 4)
"""Answers are shortened to a half, then to a quarter."""
SMALL_CARD = 24 * GIB
"""Cards of up to this memory get the settings of the presets `-24gb`."""


@dataclass(frozen=True)
class Choice:
    """Settings that a run starts from."""

    config: RunConfig | None = None  # the settings; None for the defaults
    reasons: tuple[str, ...] = ()  # why these, and what to do before the run; a sentence or two each
    launch: str | None = None  # the packaged `accelerate launch` configuration; None for a single process


def choose(model: str, gpus: tuple[int, str] | None = None, *, sharded: bool = False) -> Choice:
    """Settings for a model's family, size and cards; no weights are read.

    The model is `pocket`, a checkpoint folder, or a model id; the cards are 1 or 8 of a kind, or one of 80 GB without
    checking. `sharded` tells that the layers will be split over them. A `UserError` where no settings fit.
    """
    if model in NAMED and gpus is None:
        return Choice(RunConfig(model=model), (f"The defaults are those of {model}, on a CPU.",))
    end = _preset_end(gpus)
    vlm = outline(RunConfig(model=model))
    size = plan(RunConfig(model=model), vlm=vlm).parameters
    family = vlm.base.config.model_type
    similar = nearest(family, size)
    config = settings_for(model, family, size, ENDS[end])
    basis = (
        f"No preset is of its family ({family}): settings by size alone"
        if similar is None
        else f"Settings as for its family ({family}, preset {similar}{end}) and size"
    )
    reasons = [f"{model} has {count(size)} parameters. {basis}."]
    if gpus is not None:

        def planned(config: RunConfig, answer: int) -> Plan:
            return plan(config, gpus, answer=answer, sharded=sharded, vlm=vlm)

        cards = f"{gpus[0]}x{gpus[1]}"
        answer = config.train.max_answer_tokens
        first = planned(config, answer)
        fit = Fit(config, (), first) if first.fits else first_that_fits(config, answer, planned)
        if fit is None:
            raise UserError(f"--gpus: training {model} does not fit {cards}, not in 4 bits either: take larger cards")
        config = fit.config
        if fit.changes:
            reasons.append(f"Changed so that it fits: {'; '.join(fit.changes)}.")
        reasons.append(
            f"Training then takes {memory_of_card(fit.plan)} on each card ({cards}), as `unsay plan` estimates; "
            "evaluation is not counted."
        )
    reasons.append("Steps and learning rate are starting points that nobody has measured: watch the report.")
    return Choice(config, tuple(reasons), launch_of(end))


def _preset_end(gpus: tuple[int, str] | None) -> str:
    """The suffix of presets for these cards."""
    if gpus is None:
        return ""
    number, name = gpus
    if number not in (1, 8):
        raise UserError(
            f"--gpus: there are settings for 1 and for 8 cards, not for {number}: start from 8x{name}, and set "
            "train.batch and num_processes"
        )
    if number == 8:
        return "-8gpu"
    return "-24gb" if GPUS[name].memory_bytes <= SMALL_CARD else ""


def memory_of_card(plan: Plan) -> str:
    """`19.18 GiB of 24.00 GiB`, for a plan with a card."""
    return f"{memory(plan.memory.total)} of {memory(plan.capacity or 0)}"


# ------------------------------------------------------------------------------------------------------- what would fit


@dataclass(frozen=True)
class Fit:
    """Settings with which training fits."""

    config: RunConfig  # the changed settings
    changes: tuple[str, ...]  # each change and its cost
    plan: Plan  # what training takes with them


@dataclass(frozen=True)
class Saving:
    """One combination of ways to save memory."""

    turns: int  # factor on `train.accumulate`
    recompute: bool  # compute activations again in the backward pass
    four_bits: bool  # store the layers in 4 bits
    answer: int  # tokens of the longest answer
    shorter: bool = False  # whether that is shorter than the settings allow

    def applied(self, config: RunConfig) -> RunConfig:
        """The settings with these changes."""
        train: dict[str, object] = {"accumulate": config.train.accumulate * self.turns, "recompute": self.recompute}
        if self.shorter:
            train["max_answer_tokens"] = self.answer
        changed: dict[str, object] = {"train": config.train.model_copy(update=train)}
        if self.four_bits:
            changed["model_settings"] = config.model_settings.model_copy(update={"quantisation": "4-bit"})
        return config.model_copy(update=changed)

    def changes(self, config: RunConfig) -> tuple[str, ...]:
        """What differs from these settings, in the words of training's advice."""
        lines = []
        if self.turns > 1:
            turns = config.train.accumulate * self.turns
            lines.append(f"train.accumulate: {turns} ({TURNS[self.turns]} at a time, the same result)")
        if self.recompute and not config.train.recompute:
            lines.append("train.recompute: true (a third more work)")
        if self.four_bits and config.model_settings.quantisation is None:
            lines.append("model_settings.quantisation: 4-bit")
        if self.shorter:
            lines.append(f"train.max_answer_tokens: {self.answer} (longer answers are cut)")
        return tuple(lines)


def first_that_fits(config: RunConfig, answer: int, planned: Callable[[RunConfig, int], Plan]) -> Fit | None:
    """The cheapest combination of savings with which training fits, as `planned` estimates; None if none does.

    `planned` plans other settings and another length of answers for the same cards.
    """
    for saving in savings(config, answer):
        changed = saving.applied(config)
        try:
            made = planned(changed, saving.answer)
        except UserError:
            continue  # the rows do not divide into so many turns, or a split model cannot be in 4 bits
        if made.fits:
            return Fit(changed, saving.changes(config), made)
    return None


def savings(config: RunConfig, answer: int) -> Iterator[Saving]:
    """Cheapest first: more turns, then also recomputation, then also 4 bits, then all of these and shorter answers.

    What the settings save already stays.
    """
    for four_bits in (True,) if config.model_settings.quantisation else (False, True):
        for recompute in (True,) if config.train.recompute else (False, True):
            for turns in TURNS:
                yield Saving(turns, recompute, four_bits, answer)
    for divisor in SHORTER:
        if answer >= divisor:
            for turns in reversed(TURNS):
                yield Saving(turns, True, True, answer // divisor, shorter=True)


# --------------------------------------------------------------------------------------------------- several processes


def for_launch(start: Choice, launch: str, gpus: tuple[int, str] | None = None) -> Choice:
    """The same start, with steps that the processes of a launcher (`ddp`, `fsdp2` or `zero3`) can share.

    `gpus` are the cards that `start` was chosen for. A `UserError` for 4 bits that would be split, rows that do not
    divide by the processes, or another number of cards.
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
    turns = _most_turns(method.needs, config.train, processes)
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


def _most_turns(needs: Needs, settings: TrainSettings, processes: int) -> int:
    """The most turns, up to those of the settings, into which every role's rows divide; 1 where none do."""
    for turns in range(settings.accumulate, 1, -1):
        if not any(settings.batch.of(role) % (processes * turns) for role in needs.roles):
            return turns
    return 1
