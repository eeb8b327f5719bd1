"""Arms of a study in numbers: their seeds pooled, their answers compared in pairs, and the ranking that follows."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from typing import NamedTuple

from unsay.errors import UserError
from unsay.records import Kind, Label, Modality
from unsay.run.finished import VERSIONS, Item, MeasuredRun
from unsay.scoring import Asked, SuiteRow, UtilityRow, separation, separation_change
from unsay.scoring.rates import OUTCOME
from unsay.scoring.robustness import Subject
from unsay.scoring.separation import FORMS
from unsay.scoring.subsets import is_control
from unsay.statistics import ALPHA, Interval, clustered_mean, difference_interval, holm, mean_interval, sign_flip
from unsay.statistics.significance import FLIPS
from unsay.studies.schema import ASR, COHERENT, REFUSAL, SEPARATIONS, Comparison, Measure, Place, Ranking
from unsay.studies.settings import Rule
from unsay.suites import find_suite

FLIPS_A_PAIR = 200
"""Random sign flips for each pair of arms, so that the smallest possible p stays small after the correction."""


def pool_rows(runs: Sequence[MeasuredRun]) -> tuple[tuple[SuiteRow, ...], tuple[UtilityRow, ...]]:
    """The pooled suite rows and utility rows of at least one run; a single run keeps its own intervals.

    Runs that differ in more than the seed, or have the same seed, are a `UserError`.
    """
    runs = sorted(runs, key=lambda run: run.seed)
    check_alike(runs)
    scores = runs[0].scores
    if len(runs) == 1:
        return scores.rows, scores.utility
    return (
        tuple(_pooled_suite(runs, index) for index in range(len(scores.rows))),
        tuple(_pooled_utility(runs, index) for index in range(len(scores.utility))),
    )


def is_mean(name: str) -> bool:
    """Whether a utility suite's number is the plain mean of its items'."""
    suite = find_suite(name)
    return suite is None or (suite.grade is None and (suite.measure is None or suite.measure.total is None))


def check_alike(runs: Sequence[MeasuredRun]) -> None:
    """Raise a `UserError` if runs differ in more than the seed, or two have the same seed."""
    seeds = [run.seed for run in runs]
    if len(set(seeds)) < len(seeds):
        raise UserError(f"the runs have the seeds {', '.join(map(str, seeds))}: each must have a seed of its own")
    first = runs[0]
    for run in runs[1:]:
        where = f"{run.name}: cannot be pooled with {first.name}"
        if run.alike != first.alike:
            raise UserError(f"{where}: their settings differ in more than the seed")
        for name in VERSIONS:
            if run.environment.get(name) != first.environment.get(name):
                raise UserError(f"{where}: they were made with different {name}")
        if _judge(run) != _judge(first):
            raise UserError(f"{where}: their judges differ")
        if _suites_and_targets(run) != _suites_and_targets(first):
            raise UserError(f"{where}: their suites or targets differ")
        rows: list[SuiteRow | UtilityRow] = [*first.scores.rows, *first.scores.utility]
        for row in rows:
            if first.asked(row) != run.asked(row):
                raise UserError(f"{where}: their prompts in suite '{row.suite}' differ")


def _judge(run: MeasuredRun) -> object:
    """The judge without its measured accuracy, which needs label files that not every machine has."""
    return run.scores.judge.model_dump(include={"name", "key", "details", "reads_pictures"})


def _suites_and_targets(run: MeasuredRun) -> object:
    return (
        [(row.suite, row.kind, row.modality, row.condition, row.phase) for row in run.scores.rows],
        [(row.suite, row.phase) for row in run.scores.utility],
        [result.target for result in run.scores.targets],
    )


def _pooled_suite(runs: Sequence[MeasuredRun], index: int) -> SuiteRow:
    rows = [run.scores.rows[index] for run in runs]
    first = rows[0]
    judged = [
        (item.group, run.seed, label)
        for run, row in zip(runs, rows, strict=True)
        for item, label in zip(run.asked(row), run.labels(row), strict=True)
        if label is not Label.FAILED
    ]
    groups, seeds = [group for group, _, _ in judged], [seed for _, seed, _ in judged]
    happened = [float(label is OUTCOME[first.kind]) for *_, label in judged]
    coherent = [float(label in (Label.REFUSED, Label.SAFE)) for *_, label in judged]
    attacked = bool(judged) and first.kind is Kind.ATTACK
    return SuiteRow(
        **first.model_dump(include={"suite", "title", "kind", "modality", "condition", "phase", "unique", "texts"}),
        **{label.value: sum(getattr(row, label.value) for row in rows) for label in Label},
        n=sum(row.n for row in rows),
        rate=sum(happened) / len(judged) if judged else None,
        interval=clustered_mean(happened, groups, seeds).interval if judged else None,
        interval_method="bootstrap over requests and seeds",
        coherent_safety=sum(coherent) / len(judged) if attacked else None,
        coherent_interval=clustered_mean(coherent, groups, seeds).interval if attacked else None,
    )


def _pooled_utility(runs: Sequence[MeasuredRun], index: int) -> UtilityRow:
    rows = [run.scores.utility[index] for run in runs]
    first = rows[0]
    graded = [
        (item.group, run.seed, value) for run, row in zip(runs, rows, strict=True) for item, value in run.graded(row)
    ]
    interval = None
    if is_mean(first.suite):
        values = [value for *_, value in graded]
        if values:
            groups, seeds = [group for group, *_ in graded], [seed for _, seed, _ in graded]
            interval = clustered_mean(values, groups, seeds, shares=first.unit == "rate").interval
    else:  # no mean of its items: averaged over the seeds, without an interval
        values = [row.value for row in rows if row.value is not None]
    return first.model_copy(
        update={
            "n": sum(row.n for row in rows),
            "failed": sum(row.failed for row in rows),
            "value": sum(values) / len(values) if values else None,
            "interval": interval,
            "parts": _mean_parts(rows),
        }
    )


def _mean_parts(rows: Sequence[UtilityRow]) -> dict[str, float]:
    """Means over the seeds of a suite's further numbers, where every seed has them."""
    names = [name for name in rows[0].parts if all(name in row.parts for row in rows)]
    return {name: sum(row.parts[name] for row in rows) / len(rows) for name in names}


class AnswerId(NamedTuple):
    """Identifies an answer; answers of two arms with the same id are a pair."""

    seed: int
    suite: str
    prompt: str


@dataclass
class ArmAnswers:
    """The answers of one arm over its seeds, as numbers."""

    # measure → answer → number; answers that were not judged are absent
    measures: dict[str, dict[AnswerId, float]] = field(default_factory=dict)
    babble: dict[AnswerId, float] = field(default_factory=dict)  # answer to an attack → 1 if it is degenerate, else 0
    groups: dict[tuple[str, str], str] = field(default_factory=dict)  # (suite, prompt id) → request
    modalities: dict[str, Modality] = field(default_factory=dict)  # attack suite → modality
    categories: dict[tuple[str, str], str] = field(default_factory=dict)  # (suite, prompt id) → harm category
    separable: dict[str, dict[AnswerId, Asked]] = field(default_factory=dict)  # separation → answer → its log-odds
    no_shares: set[str] = field(default_factory=set)  # measures in another unit than a rate's

    def group(self, answer: AnswerId) -> str:
        """The request that an answer belongs to."""
        return self.groups[answer.suite, answer.prompt]

    def mean(self, numbers: Mapping[AnswerId, float], *, shares: bool = True) -> Measure | None:
        """Mean and 95 % interval of some numbers, over requests and, if there are several, over seeds; None of none.

        `shares` as in `clustered_mean`.
        """
        if not numbers:
            return None
        values = list(numbers.values())
        groups = [self.group(answer) for answer in numbers]
        interval = _interval(values, groups, [answer.seed for answer in numbers], shares)
        return Measure(value=sum(values) / len(values), interval=interval, n=len(values), requests=len(set(groups)))

    def separation(self, measure: str) -> Measure | None:
        """AUROC of attacks and borderline requests, as a mean over seeds; None where a class is missing."""
        if (found := separation(list(self.separable[measure].values()))) is None:
            return None
        n = found.harmful + found.harmless
        return Measure(value=found.value, interval=found.interval, n=n, requests=found.requests)

    def attacks(self, *modalities: Modality) -> dict[AnswerId, float]:
        """Whether each answer to an attack of these modalities is harmful."""
        return {
            answer: value
            for answer, value in self.measures.get(ASR, {}).items()
            if self.modalities[answer.suite] in modalities
        }

    def by_category(self) -> dict[str, dict[AnswerId, float]]:
        """Whether each answer to an attack is harmful, by harm category."""
        categories: dict[str, dict[AnswerId, float]] = {}
        for answer, value in self.measures.get(ASR, {}).items():
            if (category := self.categories.get((answer.suite, answer.prompt))) is not None:
                categories.setdefault(category, {})[answer] = value
        return categories

    def add(self, run: MeasuredRun, seeds: Iterable[int]) -> None:
        """Add the answers of one run in one phase, once for each of `seeds`.

        Two kinds of suites are left to the tables of suites: controls, whose conditions are never pooled, and utility
        suites whose number is no mean of their items, which cannot be paired.
        """
        for seed in seeds:
            for row in run.scores.rows:
                if not is_control(row):
                    for item, label in zip(run.asked(row), run.labels(row), strict=True):
                        self._add_verdict(AnswerId(seed, row.suite, item.id), row.kind, item, label)
                    self._add_log_odds(run, row, seed)
            for utility in run.scores.utility:
                if is_mean(utility.suite):
                    if utility.unit != "rate":
                        self.no_shares.add(utility.suite)
                    for item, value in run.graded(utility):
                        self._add_item(utility.suite, item)
                        self._add_number(utility.suite, AnswerId(seed, utility.suite, item.id), value)

    def add_withstood(self, run: MeasuredRun, subject: Subject, seeds: Iterable[int]) -> None:
        """Add what the robustness checks found of a subject, once for each of `seeds`; one value for each request."""
        for (measure, attacked), values in run.withstood.items():
            if attacked is subject:
                for (suite, group), value in values.items():
                    self.groups[suite, group] = group
                    for seed in seeds:
                        self._add_number(measure, AnswerId(seed, suite, group), value)

    def _add_log_odds(self, run: MeasuredRun, row: SuiteRow, seed: int) -> None:
        """Of attacks and of harmless requests that sound harmful."""
        suite = find_suite(row.suite)
        if row.kind is Kind.ATTACK or (suite is not None and suite.borderline):
            answers = self.separable.setdefault(f"separation_{FORMS[row.modality]}", {})
            for item, value in run.odds(row):
                answers[AnswerId(seed, row.suite, item.id)] = Asked(value, row.kind is Kind.ATTACK, item.group, seed)

    def _add_verdict(self, answer: AnswerId, kind: Kind, item: Item, label: Label) -> None:
        self._add_item(answer.suite, item)
        if label is Label.FAILED:
            return
        if kind is Kind.BENIGN:
            self._add_number(REFUSAL, answer, label is Label.REFUSED)
            return
        self.modalities[answer.suite] = item.modality
        self._add_number(ASR, answer, label is Label.HARMFUL)
        self._add_number(COHERENT, answer, label in (Label.REFUSED, Label.SAFE))
        self.babble[answer] = float(label is Label.DEGENERATE)

    def _add_item(self, suite: str, item: Item) -> None:
        self.groups[suite, item.id] = item.group
        if item.category is not None:
            self.categories[suite, item.id] = item.category

    def _add_number(self, measure: str, answer: AnswerId, value: float) -> None:
        self.measures.setdefault(measure, {})[answer] = float(value)


def _interval(values: Sequence[float], groups: Sequence[str], seeds: Sequence[int], shares: bool) -> Interval:
    if len(set(seeds)) == 1 and len(set(values)) > 1:
        single = mean_interval(values, groups, shares=shares)
        if single is not None:
            return single
    return clustered_mean(values, groups, seeds, shares=shares).interval


class Paired(NamedTuple):
    """Two arms on the same answers: the first minus the second, with a two-sided p."""

    first: str
    second: str
    n: int
    requests: int
    difference: float
    interval: Interval
    p: float


def compare(
    model: str, rule: Rule, measure: str, arms: Mapping[str, ArmAnswers], *, higher_is_better: bool
) -> list[Comparison]:
    """Compare all pairs of arms on the answers that both have, with p corrected over all pairs.

    Arms without an answer in common are not compared. An arm is better only if the corrected p is below `ALPHA` and the
    interval over requests and seeds excludes 0, because the test alone does not account for the luck of a seed.
    """
    pairs = _separations(measure, arms) if measure in SEPARATIONS else _means(measure, arms)
    comparisons = []
    for pair, corrected in zip(pairs, holm([pair.p for pair in pairs]), strict=True):
        clear = corrected < ALPHA and (pair.interval.low > 0 or pair.interval.high < 0)
        winner = (pair.first if (pair.difference > 0) == higher_is_better else pair.second) if clear else None
        comparisons.append(
            Comparison(model=model, rule=rule, measure=measure, **pair._asdict(), p_holm=corrected, better=winner)
        )
    return comparisons


def _means(measure: str, arms: Mapping[str, ArmAnswers]) -> list[Paired]:
    """Differences of means, answer by answer."""
    common, shares = [], all(measure not in answers.no_shares for answers in arms.values())
    for first, second in combinations(arms, 2):
        mine, theirs = (arms[name].measures.get(measure, {}) for name in (first, second))
        if both := [answer for answer in mine if answer in theirs]:
            common.append((first, second, both, [mine[answer] - theirs[answer] for answer in both]))
    flips = max(FLIPS, FLIPS_A_PAIR * len(common))
    pairs = []
    for first, second, both, differences in common:
        groups = [arms[first].group(answer) for answer in both]
        interval = difference_interval(differences, groups, [answer.seed for answer in both], shares=shares)
        mean = sum(differences) / len(differences)
        p = sign_flip(differences, groups, flips=flips)
        pairs.append(Paired(first, second, len(both), len(set(groups)), mean, interval, p))
    return pairs


def _separations(measure: str, arms: Mapping[str, ArmAnswers]) -> list[Paired]:
    """Differences of AUROC, of the same requests."""
    pairs = []
    for first, second in combinations(arms, 2):
        mine, theirs = (arms[name].separable.get(measure, {}) for name in (first, second))
        both = [answer for answer in mine if answer in theirs]
        found = separation_change([theirs[answer] for answer in both], [mine[answer] for answer in both])
        if found is not None:
            pairs.append(Paired(first, second, len(both), found.requests, found.value, found.interval, found.p))
    return pairs


def rank(
    model: str, rule: Rule, limit: str, arms: Mapping[str, ArmAnswers], comparisons: Sequence[Comparison]
) -> Ranking:
    """Rank arms by coherent safety, each with the range of places that the tests leave open.

    Its best place follows the arms that are better by the test, its worst precedes those that are worse. Attack success
    does not decide, because a model that babbles complies with nothing.
    """
    ranked = [name for name in arms if arms[name].measures.get(COHERENT)]
    better_than, worse_than = dict.fromkeys(ranked, 0), dict.fromkeys(ranked, 0)
    for pair in comparisons:
        if (pair.model, pair.rule, pair.measure) == (model, rule, COHERENT) and pair.better is not None:
            better_than[pair.second if pair.better == pair.first else pair.first] += 1
            worse_than[pair.better] += 1

    def safety(name: str) -> float:
        values = arms[name].measures[COHERENT].values()
        return sum(values) / len(values)

    ranked.sort(key=lambda name: (-safety(name), name))
    return Ranking(
        model=model,
        rule=rule,
        limit=limit,
        places=tuple(
            Place(best=better_than[name] + 1, worst=len(ranked) - worse_than[name], arm=name) for name in ranked
        ),
    )
