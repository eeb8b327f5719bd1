"""Cautions beside the scores: about training data, suites, judges, servers and adapters.

What a run learns from, as far as its reader must know: how few rows, what of them is cut, whose answers they are.

And in what it learns: float16 loses what is small.

What suites and judge, rather than numbers, call for saying beside the numbers.

What servers were sent otherwise than the settings say, and what that means for the numbers.

Does an adapter change what pictures pass, beside the language model?

Has an adapter been trained on what it is now asked?
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from unsay.data.splits import OverlapIndex, request_of
from unsay.errors import UserError
from unsay.files import read_json, read_rows, write_json
from unsay.generation import GenerationSettings
from unsay.generation.server import EndpointResponder
from unsay.methods import build_method
from unsay.methods.base import Companion, Needs
from unsay.models.load import NAMED, bare
from unsay.models.lora import beside_language
from unsay.records import Example, Kind, Label, Prompt, Role, Verdict
from unsay.run.directory import Run
from unsay.run.environment import weight_dtype
from unsay.scoring import Caution, JudgeInfo, SuiteCoverage, blind_judge_cautions
from unsay.suites import find_suite
from unsay.training import TrainingPlan, TrainSettings
from unsay.training.encode import answer_tokens
from unsay.training.plan import methods_without

HEAVY = 20
"""Above so many reads a row itself is learned rather than what it stands for. A judgement: nobody has measured it."""

MUCH = 0.05
"""Above this share, refusals that are cut are worth a line in red."""
LOST = {
    Role.FORGET: "leave the rest as it was",
    Role.REFUSE: "teach no end",
    Role.RETAIN: "teach no end",
}
"""What answers do that are cut at `train.max_answer_tokens`."""

SMALLEST = torch.finfo(torch.float16).smallest_normal * torch.finfo(torch.float16).eps
"""What float16 can hold: nothing that is closer to 0. Nobody scales the loss up, as mixed precision in float16 does."""


@dataclass(frozen=True)
class Compliance:
    """How many harmful requests the model itself complied with, before training.

    Attributes:
        count: answers that the judge found harmful.
        asked: requests.
        failed: answers without a verdict.
    """

    count: int
    asked: int
    failed: int

    def __str__(self) -> str:
        unjudged = f" ({self.failed:,} were not judged)" if self.failed else ""
        return f"complied with {self.count:,} of {self.asked:,} requests{unjudged}"


def compliance(run: Run) -> Compliance:
    """What came of the model's own answers, from the verdicts on them.

    Raises:
        UserError: there are no verdicts, or they are malformed.
    """
    labels = [row.label for row in read_rows(run.folder / "train" / "own_verdicts.jsonl", Verdict)]
    return Compliance(labels.count(Label.HARMFUL), len(labels), labels.count(Label.FAILED))


def nothing_to_forget(run: Run) -> UserError:
    """What to say where a method unlearns the model's own harmful answers and there are none."""
    return UserError(
        f"training data: no forget examples: {run.config.method} unlearns what the model itself says, and by the judge "
        f"'{run.judge.name}' it {compliance(run)}. Give harmful answers of your own (data.examples; `unsay examples` "
        f"makes the file), or take a method that needs none: {', '.join(methods_without(Role.FORGET))}"
    )


def measure_answers(run: Run, examples: Sequence[Example]) -> None:
    """Write `train/answer_tokens.json`: how long the answers are, in this model's tokens.

    Lengths and not counts, for the limit may be changed without the examples being made anew.
    """
    path = run.folder / "train" / "answer_tokens.json"
    if _made_for_it(run):
        path.unlink(missing_ok=True)
    else:
        write_json(path, answer_tokens(run.original(), examples))


def training_note(run: Run, plan: TrainingPlan) -> str:
    """The same as `cautions` in a few words, for the progress display; before anything is trained."""
    said = [f"each {role.value} example is read up to {times} times" for role, times in _worn(plan)]
    said += [_cut_words(role, *counts, plan.settings) for role, counts in _cut(run, plan).items()]
    if _anchored_elsewhere(run):
        said.append("retain answers are SmolLM2-135M's, not this model's")
    if weight_dtype(run.config) == "float16":
        said.append(f"in float16 gradients below {SMALLEST:.0e} become 0")
    return "; ".join(said)


def training_cautions(run: Run, plan: TrainingPlan) -> list[Caution]:
    """What the reader of the scores must know of the training data, after training."""
    found = []
    steps = _steps(run, plan.settings)
    worn = dict(_worn(plan, steps))
    own = run.config.data.examples is None and Role.FORGET in _used(_needs(run))
    if own and (Role.FORGET in worn or not _made_for_it(run)):
        found.append(_own_answers(run, worn.pop(Role.FORGET, None), steps))
    for role, times in worn.items():
        count = sum(example.role is role for example in plan.examples)
        text = f"{count:,} {role.value} examples for {steps:,} steps: each was read up to {times} times, so that"
        found.append(Caution(text=f"{text} these rows were learned rather than what they stand for.", severe=True))
    for role, counts in _cut(run, plan).items():
        text = f"{_cut_words(role, *counts, plan.settings)} (train.max_answer_tokens)"
        much = role is Role.REFUSE and counts[0] > MUCH * counts[1]
        found.append(Caution(text=f"{text}.", severe=much))
    if _anchored_elsewhere(run):
        found.append(_foreign_anchor(run))
    if weight_dtype(run.config) == "float16":
        found.append(_lost_gradients(run))
    return found


def _own_answers(run: Run, times: int | None, steps: int) -> Caution:
    text = f"Before training the model {compliance(run)} that it was to unlearn; these answers are its forget examples"
    if times is None:
        return Caution(text=f"{text}.")
    return Caution(
        text=f"{text}, and in {steps:,} steps each was read up to {times} times, so that these rows were learned "
        "rather than what they stand for. More of them: examples of your own (data.examples).",
        severe=True,
    )


def _foreign_anchor(run: Run) -> Caution:
    text = (
        "The retain answers are the packaged ones, those of SmolLM2-135M-Instruct and TruthfulQA, and not this model's "
        "own: what it is held to (KL, or hidden states) is measured off its own distribution"
    )
    if _teaches_retain(run):
        text += f", and {run.config.method} teaches it these answers"
    advice = "Its own answers hold it better: `unsay examples --role retain --answer-with`, then data.examples."
    return Caution(text=f"{text}. {advice}")


def _lost_gradients(run: Run) -> Caution:
    chosen = (
        " (model_settings.dtype: auto takes the checkpoint's own)" if run.config.model_settings.dtype == "auto" else ""
    )
    return Caution(
        text=f"The language model was trained in float16{chosen}, without scaling its loss: gradients below "
        f"{SMALLEST:.0e} became 0, and nothing counts them, so that the adapter may have learned less than its steps "
        "should have taught it. Set model_settings.dtype to bfloat16, or to float32.",
        severe=True,
    )


def _needs(run: Run) -> Needs:
    return build_method(run.config.method, run.config.method_settings).needs


def _used(needs: Needs) -> frozenset[Role]:
    """The roles whose answers a method reads, in rows of their own or in companions."""
    lent = {Role.REFUSE if kind is Companion.REFUSAL else Role.RETAIN for kind in needs.companions}
    return needs.roles | lent


def _made_for_it(run: Run) -> bool:
    """Whether model and examples are the pair that the recipe was fitted to (docs/results/recipe.md)."""
    return run.config.data.examples is None and run.config.model in NAMED


def _anchored_elsewhere(run: Run) -> bool:
    """Whether a model is held to answers that the pocket VLM's language model has written."""
    return run.config.data.examples is None and not _made_for_it(run) and Role.RETAIN in _used(_needs(run))


def _teaches_retain(run: Run) -> bool:
    """Whether the method descends on retain answers."""
    lent = _needs(run).companions.keys() & {Companion.MISMATCH, Companion.DECOUPLE}
    return bool(run.config.method_settings.get("retain_ce_weight")) or bool(lent)


def _steps(run: Run, settings: TrainSettings) -> int:
    """Steps that were made; those that were planned, where training has left no word."""
    path = run.folder / "train" / "result.json"
    found = read_json(path) if path.exists() else None
    return int(found["steps"]) if isinstance(found, dict) and "steps" in found else settings.steps


def _worn(plan: TrainingPlan, steps: int | None = None) -> list[tuple[Role, int]]:
    """Roles with a row that is read too often, and how often at most."""
    return [(role, times) for role, times in plan.most_reads(steps).items() if times > HEAVY]


def _cut(run: Run, plan: TrainingPlan) -> dict[Role, tuple[int, int]]:
    """(Answers that lose their end, answers in all) of every role of which some do and which the method reads."""
    path = run.folder / "train" / "answer_tokens.json"
    if _made_for_it(run) or not path.exists():
        return {}
    found, most = read_json(path), plan.settings.max_answer_tokens
    counts = {role: (sum(length > most for length in found.get(role, ())), len(found.get(role, ()))) for role in Role}
    used = _used(plan.needs)
    return {role: count for role, count in counts.items() if count[0] and role in used}


def _cut_words(role: Role, count: int, among: int, settings: TrainSettings) -> str:
    return (
        f"{count:,} of {among:,} {role.value} answers are cut at {settings.max_answer_tokens} tokens and {LOST[role]}"
    )


def evaluation_cautions(judged: Iterable[str], asked: Sequence[SuiteCoverage], judge: JudgeInfo) -> list[Caution]:
    """Every such caution.

    Args:
        judged: names of the attack and benign suites.
        asked: how much of each suite was asked.
        judge: who judged.
    """
    return [*partial_sum_cautions(asked), *unseen_harm_cautions(judged, judge)]


def unseen_harm_cautions(judged: Iterable[str], judge: JudgeInfo) -> tuple[Caution, ...]:
    """Suites whose harm lies in their pictures, where the judge sees none."""
    if judge.reads_pictures:
        return ()
    found = [suite for name in dict.fromkeys(judged) if (suite := find_suite(name)) is not None]
    return blind_judge_cautions([suite.title for suite in found if suite.harm_in_picture], judge.name)


def partial_sum_cautions(asked: Sequence[SuiteCoverage]) -> list[Caution]:
    """Official numbers that are sums, of suites that were asked in part: their scale is another one then."""
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


AGAIN = "the intervals do not count that"


def ignored_parameters(server: EndpointResponder | None, judge: Any) -> dict[str, str]:
    """What became of parameters that a server does not take; empty where all was sent as set.

    Args:
        server: that answered, if one did.
        judge: any judge; of a panel, the members behind servers count.

    Returns:
        `answers.` or `verdicts.` and the parameter → what was done: `answers.temperature` → "left to the server".
    """
    answers = {} if server is None else server.ignored_parameters
    found = {f"answers.{name}": done for name, done in answers.items()}
    for member in (judge, *getattr(judge, "members", ())):
        found |= {f"verdicts.{name}": done for name, done in getattr(member, "ignored_parameters", {}).items()}
    return found


def sampling_cautions(how: Mapping[str, str], generation: GenerationSettings) -> list[Caution]:
    """Cautions where a server kept its own temperature: what it said may be drawn at random.

    Args:
        how: what `ignored_parameters` found.
        generation: what the settings asked for.
    """
    found = []
    if "answers.temperature" in how:
        asked = f"temperature {generation.temperature:g}" + (" (greedy)" if generation.temperature == 0 else "")
        text = f"The server that answered takes no temperature and kept its own; {asked} was asked for. Asked again, it"
        found.append(Caution(text=f"{text} may answer otherwise, and {AGAIN}."))
    if "verdicts.temperature" in how:
        text = "The judge's server takes no temperature and kept its own; 0 was asked for. Asked again, it may judge"
        found.append(Caution(text=f"{text} the same answer otherwise, and {AGAIN}."))
    return found


def vision_cautions(adapter: Path, model: str) -> list[Caution]:
    """A caution for an adapter that changes the vision side, too, as one on all linears does.

    What is trained here never does. Read off the names of its weights: where all answers are there, no model is loaded.

    Args:
        adapter: its folder, in PEFT format.
        model: what it was put on. Where its configuration is gone by now, as with a cache that was cleared, the caution
            says that nothing is known: answers that are all there are not lost for that.
    """
    with safe_open(adapter / "adapter_model.safetensors", framework="pt") as weights:
        names = list(weights.keys())
    try:
        found = beside_language(bare(model), names)
    except UserError:
        text = (
            "It is not known whether the adapter changes the vision side of the model, too: the model's configuration "
            "could not be read any more. Run the command again where it can be; no answer is made anew."
        )
        return [Caution(text=text)]
    if not found:
        return []
    share = f"{len(found)} of its {len(names)} weights, as {min(found)}"
    text = (
        f"The adapter changes the vision side of the model, too ({share}): what it does beside pictures is not its "
        "language model's doing alone, and no measure of how far training on text carries over."
    )
    return [Caution(text=text)]


def contamination_cautions(adapter: Path, suites: Mapping[str, Sequence[Prompt]]) -> list[Caution]:
    """A severe caution for each suite that asks, or nearly asks, what the adapter's own run trained on.

    A run keeps its training clear of the suites that it asks itself. It cannot know those that are asked later.

    Args:
        adapter: its folder; what it learned from is known where that still lies in its run directory.
        suites: prompts by suite. Those that ask one and the same question of many pictures are left out.
    """
    try:
        learned = read_rows(adapter.parent / "train" / "examples.jsonl", Example)
    except UserError:
        return []
    index = OverlapIndex(request_of(row) for row in learned)
    found = []
    for name, prompts in suites.items():
        suite = find_suite(name)
        if not prompts or (prompts[0].kind is Kind.UTILITY and not (suite is not None and suite.likely)):
            continue
        if count := sum(index.overlaps(request_of(prompt)) for prompt in prompts):
            title = suite.title if suite is not None else name
            share = f"{count} of {len(prompts)} prompts, or nearly these"
            text = f"{title}: {share}, were among the adapter's training data"
            advice = "a run that trains with the suite among its own (evaluation.suites) keeps clear of it"
            found.append(Caution(text=f"{text}, and say little of new ones; {advice}.", severe=True))
    return found
