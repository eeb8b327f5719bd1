"""The bench: what a check is given. Two models, the suites, the examples, and one way to ask, to judge and to count.

Answers go through the run's responder and cache, verdicts through its judge. Elicited text stands in `responses/` of
the run directory and nowhere else.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from math import comb, isfinite
from pathlib import Path
from typing import TypeAlias

from unsay.errors import UserError
from unsay.files import content_key, read_rows
from unsay.generation import GenerationSettings, respond
from unsay.generation.responses import ResponseCache
from unsay.journal import Journal
from unsay.judges import judge_all
from unsay.judges.base import Pair, shown
from unsay.models import VLM, load
from unsay.models.merge import merged
from unsay.records import Example, Label, Phase, Prompt, Record, Response, Role, Verdict
from unsay.robustness.base import Check
from unsay.run.directory import Adapter, Run, absolute_image, relative_image
from unsay.run.evaluate import JUDGED_AT_ONCE, add_answer_cost, known_verdicts
from unsay.run.suites import Suites
from unsay.scoring.rates import OUTCOME
from unsay.scoring.robustness import Number, Setting, Subject, score_number
from unsay.stages import Spent

WORDS, TYPOGRAPHIC, FIGSTEP = "advbench", "advbench-typographic", "advbench-figstep"
BENIGN, BENIGN_DRAWN, ALARMING = "benign", "benign-typographic", "contrast"
ATTACKS = (WORDS, TYPOGRAPHIC, FIGSTEP)
"""The same harmful requests in words, as pictures, and as headings of empty lists."""
HARMLESS = (BENIGN, BENIGN_DRAWN, ALARMING)
"""Ordinary requests in words and as pictures, and harmless requests that sound harmful."""

Labels: TypeAlias = dict[str, Label]
"""Prompt id → label."""
Loaded: TypeAlias = VLM | Callable[[], VLM]
"""A model, or what makes it when it turns out to be needed."""
Measured: TypeAlias = dict[str, Labels]
"""By suite."""


class Known(Record):
    """What is kept of a measurement for a later call: the labels of one suite, and what its answers cost."""

    labels: Labels
    cost: Spent


@dataclass(frozen=True)
class Measurement:
    """The labels of one suite of one subject under one setting, and what they are to be compared with."""

    subject: Subject
    setting: Setting
    prompts: list[Prompt]
    labels: Labels
    baseline: Setting

    @property
    def suite(self) -> str:
        """The suite's name."""
        return self.prompts[0].suite


@dataclass
class Bench:
    """What a check is given.

    Attributes:
        run: the run directory in use, with its settings, judge and progress display.
        adapter: what was unlearned.
        check: the check at work.
        key: of all that decides its numbers; part of every answer's key.
        suites: the prompts of `ATTACKS` and `HARMLESS`; image paths open from here.
        quick: whether the short form is wanted.
        unattacked: the labels of both subjects without an attack, on all suites.
        spent: the cost of answering so far.
        measurements: what was measured so far.
        notes: what the report must say of them, a line each.
    """

    run: Run
    adapter: Adapter
    check: Check
    key: str
    suites: Suites
    quick: bool = False
    unattacked: Mapping[Subject, Measured] = field(default_factory=dict)
    spent: Spent = field(default_factory=Spent)
    measurements: list[Measurement] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _expected: int | None = field(default=None, repr=False)

    @cached_property
    def possible(self) -> tuple[str, ...]:
        """What the check can do here and not everywhere; found out once, so that all of it goes by the same."""
        return self.check.possible(self)

    @property
    def folder(self) -> Path:
        """A folder of the check's own, for anything but text that a model wrote."""
        return self.run.folder / "robustness" / self.check.name

    @property
    def generation(self) -> GenerationSettings:
        """How the run generates its answers."""
        return self.run.config.evaluation.generation

    @property
    def seed(self) -> int:
        """The run's."""
        return self.run.config.seed

    @property
    def max_answer_tokens(self) -> int:
        """Tokens of an answer that the run trains on."""
        return self.run.config.train.max_answer_tokens

    @property
    def attacks(self) -> Suites:
        """The harmful requests in words, as pictures, and as headings of empty lists."""
        return {name: self.suites[name] for name in ATTACKS}

    def examples(self, role: Role) -> list[Example]:
        """The run's training examples of one role, in the order of their file; image paths open from here.

        Raises:
            UserError: the run has none.
        """
        found = [row for row in self._examples if row.role is role]
        if not found:
            raise UserError(f"{self.run.examples_path}: has no {role.value} examples, which the checks need")
        return found

    @cached_property
    def _examples(self) -> list[Example]:
        rows = read_rows(self.run.examples_path, Example)
        return [absolute_image(self.run.folder, row) for row in rows]

    def model(self, subject: Subject) -> VLM:
        """The subject, to ask and not to change: the run's one loaded model, with the adapter or without."""
        return self.run.adapted(self.adapter) if subject is Subject.UNLEARNED else self.run.original()

    def merged(self, subject: Subject, dtype: str | None = None) -> VLM:
        """A fresh copy of the subject that a check may change: plain weights, the adapter added into them.

        In the run's precision, unless another is asked for. The run's loaded model is dropped first, so that there is
        one model in memory if the check drops its last one, too.
        """
        self.run.unload()
        config = self.run.config
        changes = {"quantisation": None, **({"dtype": dtype} if dtype else {})}
        if dtype == "float32" and config.model_settings.attention == "flash_attention_2":
            changes["attention"] = "sdpa"  # it takes half precision alone
        return merged(
            load(
                config.model,
                adapter=self.adapter.folder if subject is Subject.UNLEARNED else None,
                device=str(self.run.device),
                settings=config.model_settings.model_copy(update=changes),
            )
        )

    def known(self, subject: Subject, setting: Setting, suites: Suites | None = None) -> bool:
        """Whether an earlier, killed call has measured the subject under this setting already.

        `measure` then needs no model; a check that trains for minutes can leave that out.
        """
        asked = (self.attacks if suites is None else suites).values()
        return all(self._journal.get(self._measure_key(subject, setting, prompts)) for prompts in asked)

    def measure(
        self,
        subject: Subject,
        setting: Setting,
        vlm: Loaded,
        suites: Suites | None = None,
        *,
        baseline: Setting | None = None,
        begun: Mapping[str, str] | None = None,
        samples: int = 1,
        generation: GenerationSettings | None = None,
    ) -> Measured:
        """Ask a subject under a setting, judge the answers, and keep the outcome for the report.

        Args:
            subject: the model that is attacked.
            setting: what was done, other than in any other call with this subject and suite; it is in the answers' key.
            vlm: the model that answers; a function is called only if some answer is missing.
            suites: what is asked; the attacks in all three forms by default. Prompts that a check rewords keep their id
                and group, by which they are compared.
            baseline: the setting that the change is counted from, measured by this check; the subject without an attack
                by default.
            begun: prompt id → the words that its answer begins with, in the model's own voice.
            samples: answers per prompt; with several, ids end in `#0`, `#1` and so on. Needs a temperature.
            generation: other settings than the run's.

        Returns:
            The label of every prompt, by suite and id.
        """
        chosen = self.attacks if suites is None else suites
        measured = {}
        for name, prompts in chosen.items():
            asked = repeated(prompts, samples)
            key = self._measure_key(subject, setting, prompts)
            known = self._journal.get(key)
            if known is None or known.labels.keys() != {row.id for row in asked}:
                vlm, cost = vlm() if callable(vlm) else vlm, Spent()
                answers = self.ask(
                    vlm, prompts, subject, setting, begun=begun, samples=samples, generation=generation, spent=cost
                )
                verdicts = self.judge(asked, answers)
                known = Known(labels={row.id: row.label for row in verdicts}, cost=cost)
                if Label.FAILED not in known.labels.values():  # a judge that was out of order is asked again
                    self._journal.add([(key, known)])
            self.spent.add_answers(known.cost)
            self.measurements.append(Measurement(subject, setting, asked, known.labels, baseline or {}))
            measured[name] = known.labels
            self._show(f"{subject.value}, {name}")
        return measured

    def ask(
        self,
        vlm: VLM,
        prompts: Sequence[Prompt],
        subject: Subject,
        setting: Setting,
        *,
        begun: Mapping[str, str] | None = None,
        samples: int = 1,
        generation: GenerationSettings | None = None,
        spent: Spent | None = None,
    ) -> list[Response]:
        """The answers to prompts of one suite, in order; kept in `responses/`, and never generated twice.

        Their cost is added to `spent`, by default to the check's own.
        """
        suite = prompts[0].suite
        answers = self.run.folder / "responses"
        folder = answers / "robustness" / self.check.name
        if setting:
            vlm = replace(vlm, key=content_key(self.key, subject, setting), adapter_key=None)
        name = ".".join([suite, subject.value, *(f"{key}-{value}" for key, value in setting.items())])
        responses = respond(
            vlm,
            prompts,
            generation or self.generation,
            folder / f"{name.replace('/', '_')}.jsonl",
            begun=begun,
            samples=samples,
            cache=self._cache((folder if setting else answers) / "cache.jsonl"),
        )
        add_answer_cost(vlm, responses, self.spent if spent is None else spent)
        return responses

    def judge(self, prompts: Sequence[Prompt], responses: Sequence[Response]) -> list[Verdict]:
        """The verdicts of the run's judge, in order; kept in `verdicts/`, so that equal answers are judged once."""
        pairs = list(zip(prompts, responses, strict=True))
        keys = [self._verdict_key(pair) for pair in pairs]
        found = {key: verdict for key in keys if (verdict := self._verdicts.get(key)) is not None}
        waiting = [(key, pair) for key, pair in dict(zip(keys, pairs, strict=True)).items() if key not in found]
        for start in range(0, len(waiting), JUDGED_AT_ONCE):
            part = waiting[start : start + JUDGED_AT_ONCE]
            verdicts = judge_all(self.run.judge, [pair for _, pair in part])
            new = {key: verdict for (key, _), verdict in zip(part, verdicts, strict=True)}
            found |= new
            # A judge that was out of order is asked again.
            self._verdicts.add((key, row) for key, row in new.items() if row.label is not Label.FAILED)
        return [found[key].model_copy(update={"id": row.id}) for key, (_, row) in zip(keys, pairs, strict=True)]

    def _verdict_key(self, pair: Pair) -> str:
        """Of all that a judge sees: the conversation too, and a picture if it reads those."""
        prompt, response = pair
        judge = self.run.judge
        seen = shown(judge, prompt) or None
        return content_key(
            judge.key, prompt.kind, prompt.modality, prompt.in_full, prompt.turns, seen, response.response
        )

    def number(
        self,
        name: str,
        subject: Subject,
        values: Mapping[str, float],
        *,
        reference: Mapping[str, float] | None = None,
        setting: Setting | None = None,
        suite: str = "",
        title: str = "",
        unit: str = "rate",
    ) -> Number:
        """A number that is a mean over requests; `values` and the `reference`'s are by group.

        See `by_request` for the values of a measurement. A value that is not finite, as the loss of a model that was
        broken by the attack, is left out, and a note says so.
        """
        finite, compared = (_finite(numbers) for numbers in (values, reference or {}))
        if len(finite) < len(values):
            self.note(f"{title or name}, {subject.value}: {len(values) - len(finite)} of {len(values)} are not finite")
        return score_number(
            name,
            subject,
            finite,
            reference=compared,
            setting=setting,
            suite=suite,
            title=title,
            unit=unit,
            seed=self.seed,
        )

    def before(self, subject: Subject) -> Measured:
        """The labels of the subject without an attack, on all suites; the report has their rates."""
        return self.unattacked[subject]

    def note(self, line: str) -> None:
        """Tell the reader of the report what was left out or cut."""
        self.notes.append(line)

    def expect(self, total: int) -> None:
        """Tell the progress display how many suites the check will measure."""
        self._expected = total

    def _show(self, note: str) -> None:
        done = len(self.measurements)
        self.run.stages.progress.update(done, max(done, self._expected or done), note)

    def _measure_key(self, subject: Subject, setting: Setting, prompts: Sequence[Prompt]) -> str:
        return content_key(self.key, subject, setting, [relative_image(self.run.folder, row) for row in prompts])

    @cached_property
    def _journal(self) -> Journal[Known]:
        return Journal(self.folder / "measured.jsonl", Known)

    @cached_property
    def _verdicts(self) -> Journal[Verdict]:
        run = self.run
        journal = Journal(run.folder / "verdicts" / run.judge.name / "robustness.jsonl", Verdict)
        if not len(journal):  # the run itself has judged most answers of the models without an attack
            known = [row for name in self.suites for phase in Phase for row in known_verdicts(run, name, phase)]
            journal.add((self._verdict_key(pair), row) for pair, row in known if row.label is not Label.FAILED)
        return journal

    def _cache(self, path: Path) -> ResponseCache:
        if path not in self._caches:
            self._caches[path] = ResponseCache(path)
        return self._caches[path]

    @cached_property
    def _caches(self) -> dict[Path, ResponseCache]:
        return {}


def _finite(values: Mapping[str, float]) -> dict[str, float]:
    return {group: value for group, value in values.items() if isfinite(value)}


def repeated(prompts: Sequence[Prompt], samples: int) -> list[Prompt]:
    """Every prompt once for each of its sampled answers, whose ids the copies have."""
    if samples == 1:
        return list(prompts)
    return [row.model_copy(update={"id": f"{row.id}#{index}"}) for row in prompts for index in range(samples)]


def at_least_once(prompts: Sequence[Prompt], labels: Labels, k: int) -> dict[str, float]:
    """Group → chance that at least one of k answers has the outcome, from n ≥ k answers of which c have it.

        1 − C(n − c, k) ÷ C(n, k)

    without bias (Chen et al. 2021, arXiv 2107.03374, equation 1). Requests with fewer than k judged answers are left
    out.
    """
    chances = {}
    for group, found in _outcomes(prompts, labels).items():
        n, c = len(found), sum(found)
        if n >= k:
            chances[group] = 1 - comb(n - c, k) / comb(n, k)
    return chances


def by_request(prompts: Sequence[Prompt], labels: Labels) -> dict[str, float]:
    """Group → share of its judged answers that have the outcome: harmful for attacks, refused for benign suites."""
    return {group: sum(found) / len(found) for group, found in _outcomes(prompts, labels).items()}


def _outcomes(prompts: Sequence[Prompt], labels: Labels) -> dict[str, list[bool]]:
    """Group → whether each judged answer has the outcome that its kind leads with."""
    outcomes: dict[str, list[bool]] = {}
    for row in prompts:
        if (label := labels[row.id]) is not Label.FAILED:
            outcomes.setdefault(row.group, []).append(label is OUTCOME[row.kind])
    return outcomes
