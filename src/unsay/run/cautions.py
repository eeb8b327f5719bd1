"""Cautions beside the scores: about training data, suites, judges, servers and adapters."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch

from unsay.config import RunConfig, read_run_config
from unsay.errors import UserError
from unsay.generation import GenerationSettings
from unsay.methods.base import Companion, Needs
from unsay.models.loading import NAMED, load_skeleton, model_key, source_of
from unsay.models.lora import weight_names, weights_outside_language
from unsay.records import Role
from unsay.run.environment import weight_dtype
from unsay.run.examples import TrainingExamples, fits_recipe
from unsay.run.finished import public_name
from unsay.scoring import Caution, JudgeInfo, SuiteCoverage, blind_judge_cautions
from unsay.scoring.red_team import RedTeam
from unsay.suites import find_suite
from unsay.training import TrainingPlan, TrainSettings

MANY_READS = 20
"""Rows read more often are memorised. A judgement: nobody has measured it."""
MANY_CUT_REFUSALS = 0.05
"""A larger share of cut refusals makes a severe caution."""
EFFECT_OF_CUTTING = {
    Role.FORGET: "leave the rest as it was",
    Role.REFUSE: "teach no end",
    Role.RETAIN: "teach no end",
}
"""The effect of answers that are cut at `train.max_answer_tokens`."""
SMALLEST = torch.finfo(torch.float16).smallest_normal * torch.finfo(torch.float16).eps
"""The smallest number in float16. Training does not scale the loss up, as mixed precision in float16 does."""
RETAIN_COMPANIONS = {Companion.MISMATCH, Companion.DECOUPLE}
"""Companions whose answers are those of retain examples."""
NOT_IN_INTERVALS = "the intervals do not count that"


def training_note(config: RunConfig, examples: TrainingExamples, plan: TrainingPlan) -> str:
    """The same as `training_cautions` in a few words, for the progress display before training."""
    notes = [f"each {role.value} example is read up to {reads} times" for role, reads in _worn(plan).items()]
    notes += [_cut_words(role, *counts, plan.settings) for role, counts in _cut(examples, plan).items()]
    if _foreign_retain(config, plan.needs):
        notes.append("retain answers are SmolLM2-135M's, not this model's")
    if weight_dtype(config) == "float16":
        notes.append(f"in float16 gradients below {SMALLEST:.0e} become 0")
    return "; ".join(notes)


def training_cautions(config: RunConfig, examples: TrainingExamples, plan: TrainingPlan, steps: int) -> list[Caution]:
    """The limits of the training data that a reader of the scores must know, after so many steps."""
    cautions = []
    worn = _worn(plan, steps)
    if examples.red_team is not None and examples.red_team.requests and Role.FORGET in _used(plan.needs):
        reads = worn.pop(Role.FORGET, None)
        if reads is not None or not fits_recipe(config):
            cautions.append(_own_answers(examples.red_team, reads, steps))
    for role, reads in worn.items():
        count = sum(example.role is role for example in examples.train)
        text = (
            f"{count:,} {role.value} examples for {steps:,} steps: each was read up to {reads} times, so that these "
            "rows were learned rather than what they stand for."
        )
        cautions.append(Caution(text=text, severe=True))
    for role, (cut, among) in _cut(examples, plan).items():
        text = f"{_cut_words(role, cut, among, plan.settings)} (train.max_answer_tokens)."
        cautions.append(Caution(text=text, severe=role is Role.REFUSE and cut > MANY_CUT_REFUSALS * among))
    if _foreign_retain(config, plan.needs):
        cautions.append(_foreign_answers(config, plan.needs))
    if weight_dtype(config) == "float16":
        cautions.append(_lost_gradients(config))
    return cautions


def _own_answers(red_team: RedTeam, reads: int | None, steps: int) -> Caution:
    text = f"Before training the model {red_team} that it was to unlearn; these answers are its forget examples"
    if red_team.given:
        text += f", beside {red_team.given:,} of the requests' sources, which are not its own"
    if reads is None:
        return Caution(text=f"{text}.")
    return Caution(
        text=f"{text}, and in {steps:,} steps each was read up to {reads} times, so that these rows were learned "
        "rather than what they stand for. More of them: examples of your own (data.examples).",
        severe=True,
    )


def _foreign_answers(config: RunConfig, needs: Needs) -> Caution:
    text = (
        "The retain answers are the packaged ones, those of SmolLM2-135M-Instruct and TruthfulQA, and not this model's "
        "own: what it is held to (KL, or hidden states) is measured off its own distribution"
    )
    if config.method_settings.get("retain_ce_weight") or needs.companions.keys() & RETAIN_COMPANIONS:
        text += f", and {config.method} teaches it these answers"
    return Caution(text=f"{text}. Its own answers hold it better: data.retain_answers: own.")


def _lost_gradients(config: RunConfig) -> Caution:
    chosen = " (model_settings.dtype: auto takes the checkpoint's own)" if config.model_settings.dtype == "auto" else ""
    return Caution(
        text=f"The language model was trained in float16{chosen}, without scaling its loss: gradients below "
        f"{SMALLEST:.0e} became 0, and nothing counts them, so that the adapter may have learned less than its steps "
        "should have taught it. Set model_settings.dtype to bfloat16, or to float32.",
        severe=True,
    )


def _used(needs: Needs) -> frozenset[Role]:
    """The roles whose answers a method reads, in rows of their own or in companions."""
    return needs.roles | {Role.REFUSE if kind is Companion.REFUSAL else Role.RETAIN for kind in needs.companions}


def _foreign_retain(config: RunConfig, needs: Needs) -> bool:
    """Whether the model is held to answers that the pocket VLM's language model wrote."""
    packaged = config.data.examples is None and not config.data.retain
    foreign = packaged and config.data.retain_answers == "given" and not fits_recipe(config)
    return foreign and Role.RETAIN in _used(needs)


def _worn(plan: TrainingPlan, steps: int | None = None) -> dict[Role, int]:
    """Roles with a row that is read more than `MANY_READS` times, and how often at most."""
    return {role: reads for role, reads in plan.most_reads(steps).items() if reads > MANY_READS}


def _cut(examples: TrainingExamples, plan: TrainingPlan) -> dict[Role, tuple[int, int]]:
    """(Answers that lose their end, answers) of every role that the method reads and that has such answers."""
    counts = {}
    for role in Role:
        lengths = examples.answer_tokens.get(role, ())
        cut = sum(length > plan.settings.max_answer_tokens for length in lengths)
        if cut and role in _used(plan.needs):
            counts[role] = cut, len(lengths)
    return counts


def _cut_words(role: Role, cut: int, among: int, settings: TrainSettings) -> str:
    return (
        f"{cut:,} of {among:,} {role.value} answers are cut at {settings.max_answer_tokens} tokens and "
        f"{EFFECT_OF_CUTTING[role]}"
    )


def evaluation_cautions(judged: Iterable[str], asked: Sequence[SuiteCoverage], judge: JudgeInfo) -> list[Caution]:
    """Cautions that follow from the suites and the judge, not from the numbers; `judged` have verdicts."""
    return [*partial_sum_cautions(asked), *unseen_harm_cautions(judged, judge)]


def unseen_harm_cautions(judged: Iterable[str], judge: JudgeInfo) -> tuple[Caution, ...]:
    """A caution about suites whose harm is in their pictures, where the judge sees no pictures."""
    if judge.reads_pictures:
        return ()
    suites = [suite for name in dict.fromkeys(judged) if (suite := find_suite(name)) is not None]
    return blind_judge_cautions([suite.title for suite in suites if suite.harm_in_picture], judge.name)


def partial_sum_cautions(asked: Sequence[SuiteCoverage]) -> list[Caution]:
    """Cautions about suites that were asked in part and whose official number is a sum, so that its scale changes."""
    return [
        Caution(
            text=f"{row.title}: only {row.asked:,} items were asked. It adds up subtasks, so that few items of each, "
            "or none, make it no number to compare with published ones; ask all of them (`--limit all`).",
            severe=True,
        )
        for row in asked
        if row.cut and _is_sum(row.suite)
    ]


def _is_sum(name: str) -> bool:
    suite = find_suite(name)
    return suite is not None and suite.measure is not None and suite.measure.total is not None


def sampling_cautions(conditions: Mapping[str, str], generation: GenerationSettings) -> list[Caution]:
    """Cautions where a server kept its own temperature, so that its answers or verdicts may be sampled.

    The conditions are those of `evaluate.answer_conditions`, with the parameters that servers ignored.
    """
    cautions = []
    if "answers.temperature" in conditions:
        asked = f"temperature {generation.temperature:g}" + (" (greedy)" if generation.temperature == 0 else "")
        text = f"The server that answered takes no temperature and kept its own; {asked} was asked for. Asked again, it"
        cautions.append(Caution(text=f"{text} may answer otherwise, and {NOT_IN_INTERVALS}."))
    if "verdicts.temperature" in conditions:
        text = "The judge's server takes no temperature and kept its own; 0 was asked for. Asked again, it may judge"
        cautions.append(Caution(text=f"{text} the same answer otherwise, and {NOT_IN_INTERVALS}."))
    return cautions


def base_cautions(adapter: Path, model: str) -> list[Caution]:
    """A severe caution for an adapter that was trained on other weights; its run directory tells, if it lies in it.

    A folder and an id of the hub cannot be compared. Of the pocket VLM, loading has compared the versions.
    """
    try:
        trained_on = read_run_config(adapter.resolve().parent).model
        folders = [Path(source_of(name)).is_dir() for name in (trained_on, model)]
        if folders[0] != folders[1] or {trained_on, model} & set(NAMED) or model_key(trained_on) == model_key(model):
            return []
    except UserError:
        return []  # no run directory, or its model has moved
    text = (
        f"The adapter was trained on other weights ({public_name(trained_on)}) than those that it was put on here: "
        "what is measured is neither model's unlearning."
    )
    return [Caution(text=text, severe=True)]


def vision_cautions(adapter: Path, model: str) -> list[Caution]:
    """A caution for an adapter that changes the vision side, as one on all linear layers does; `unsay` trains none.

    The names of the weights tell, so that no model is loaded. If the model's configuration can no longer be read, as
    after a cache was cleared, the caution says so: a finished evaluation must not fail because of that.
    """
    names = weight_names(adapter)
    try:
        outside = weights_outside_language(load_skeleton(model), names)
    except UserError:
        text = (
            "It is not known whether the adapter changes the vision side of the model, too: the model's configuration "
            "could not be read any more. Run the command again where it can be; no answer is made anew."
        )
        return [Caution(text=text)]
    if not outside:
        return []
    share = f"{len(outside)} of its {len(names)} weights, as {min(outside)}"
    text = (
        f"The adapter changes the vision side of the model, too ({share}): what it does beside pictures is not its "
        "language model's doing alone, and no measure of how far training on text carries over."
    )
    return [Caution(text=text)]
