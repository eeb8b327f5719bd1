"""What pages and tables of a study share: the rows of a ranking, and its numbers and findings in words."""

from collections.abc import Mapping
from dataclasses import dataclass

from unsay.reports import numbers
from unsay.run.cautions import unseen_harm_cautions
from unsay.scoring.limits import MAX_DEGENERATE, MAX_FAILED
from unsay.statistics import Interval
from unsay.studies.schema import ASR, COHERENT, REFUSAL, ArmRow, Comparison, Measure, Place, Ranking, StudyResult
from unsay.studies.settings import ORIGINAL

RATIOS = {"tokens": "tokens", "flops": "operations", "seconds": "seconds"}
"""Costs that a ranking shows as multiples of the reference's: name → title."""

RULES = {"steps": "equal steps", "tokens": "equal tokens", "seconds": "equal seconds"}


@dataclass(frozen=True)
class Column:
    """One measure of a frame."""

    name: str  # as in `study.json`
    title: str  # for people
    unit: str  # `rate`, or the unit to show
    higher_is_better: bool  # whether more is better


@dataclass(frozen=True)
class Cell:
    """One measure of one arm."""

    measure: Measure
    pair: Comparison | None  # its comparison with the reference, where there is one


@dataclass(frozen=True)
class Row:
    """One arm of a ranking."""

    arm: ArmRow
    place: Place | None  # its place; None for an arm that failed
    cells: Mapping[str, Cell]  # its measures by name

    def places(self) -> str:
        """Its place in words: `2`, or `1–3` for a tie."""
        return "" if self.place is None else place_words(self.place)

    def times(self) -> list[str]:
        """What its training took, as `× 1.20` of the reference's; empty where that is not known."""
        ratios = self.arm.cost.ratios if self.arm.cost is not None else {}
        return [f"× {ratios[name]:.2f}" if name in ratios else "" for name in RATIOS]


@dataclass(frozen=True)
class Frame:
    """A ranking with everything that a table shows of it."""

    result: StudyResult
    ranking: Ranking
    columns: tuple[Column, ...]  # measures that a ranking shows
    rows: tuple[Row, ...]  # arms, the safest first
    failed: tuple[Row, ...]  # arms without a result

    def compared(self) -> list[tuple[ArmRow, dict[str, Comparison]]]:
        """Each arm that is compared with the reference, and its comparisons by measure."""
        pairs = ((row.arm, {name: c.pair for name, c in row.cells.items() if c.pair is not None}) for row in self.rows)
        return [(arm, by_measure) for arm, by_measure in pairs if by_measure]


def frame_of(result: StudyResult, ranking: Ranking) -> Frame:
    """The frame of a ranking; its rows also have pooled attack success and babble, which have no column."""
    columns = (
        Column(COHERENT, "coherent safety", "rate", True),
        Column("text_attacks", "ASR, text", "rate", False),
        Column("image_attacks", "ASR, image", "rate", False),
        Column(REFUSAL, "over-refusal", "rate", False),
        *(
            Column(name, title, result.units[name], name in result.higher_is_better)
            for name, title in result.measures.items()
            if name in result.units
        ),
    )
    names = [*(column.name for column in columns), ASR, "degenerate"]

    def row(arm: ArmRow, place: Place | None) -> Row:
        measures = {"text_attacks": arm.text_attacks, "image_attacks": arm.image_attacks, "degenerate": arm.degenerate}
        measures |= arm.measures
        cells = {
            name: Cell(measure, against(result, ranking, arm.name, name))
            for name in names
            if (measure := measures.get(name)) is not None
        }
        return Row(arm, place, cells)

    lost = (arm for arm in result.arms if arm.state == "failed" and arm.model == ranking.model)
    return Frame(
        result=result,
        ranking=ranking,
        columns=columns,
        rows=tuple(row(result.find(place.arm), place) for place in ranking.places),
        failed=tuple(row(arm, None) for arm in lost if ranking.rule in arm.rules),
    )


def heading(result: StudyResult, ranking: Ranking) -> str:
    """Heading of a ranking: what is equal for its arms, and their model if there are several."""
    model = f", {ranking.model}" if len(result.models) > 1 else ""
    return f"{RULES[ranking.rule].capitalize()}: {ranking.limit}{model}"


def label(result: StudyResult, arm: ArmRow) -> str:
    """An arm's title, with its model and its rule if there are several."""
    parts = [arm.title]
    if len(result.models) > 1:
        parts.append(arm.model)
    if len(result.rankings) > len(result.models) and len(arm.rules) == 1:
        parts.append(RULES[arm.rules[0]])
    return ", ".join(parts)


def value(result: StudyResult, name: str, measure: Measure | None) -> str:
    """The value of a measure, in its unit."""
    if measure is None:
        return numbers.DASH
    return numbers.percent(measure.value) if is_rate(result, name) else numbers.plain(measure.value)


def span(result: StudyResult, name: str, measure: Measure) -> str:
    """The interval of a measure, in its unit."""
    if is_rate(result, name):
        return numbers.span(measure.interval)
    return f"{numbers.plain(measure.interval.low)}–{numbers.plain(measure.interval.high)}"


def is_rate(result: StudyResult, measure: str) -> bool:
    """Whether a measure is a rate, shown in per cent; else it has a unit."""
    return result.units.get(measure, "rate") == "rate"


def place_words(place: Place) -> str:
    """`2`, or `1–3` if the data does not tell which of these places it is."""
    return str(place.best) if place.best == place.worst else f"{place.best}{numbers.DASH}{place.worst}"


def difference(pair: Comparison, first: str) -> tuple[float, Interval]:
    """The difference of a pair with its interval, as `first` minus the other arm."""
    if pair.first == first:
        return pair.difference, pair.interval
    return -pair.difference, Interval(low=-pair.interval.high, high=-pair.interval.low)


def difference_words(result: StudyResult, pair: Comparison, first: str) -> str:
    """The difference of a pair with its interval, as `first` minus the other arm, in words."""
    mean, interval = difference(pair, first)
    show = numbers.points if is_rate(result, pair.measure) else _signed
    return f"{show(mean)} [{show(interval.low)}, {show(interval.high)}]"


def _signed(number: float) -> str:
    """A number in a unit, with its sign."""
    return f"{numbers.MINUS if number < 0 else '+'}{numbers.plain(abs(number))}"


def verdict(pair: Comparison, first: str) -> str:
    """`better`, `worse` or `tie`: `first` against the other arm."""
    return "tie" if pair.better is None else "better" if pair.better == first else "worse"


def against(result: StudyResult, ranking: Ranking, name: str, measure: str) -> Comparison | None:
    """The comparison of an arm with the reference in a ranking; None for the reference itself."""
    other = reference_in(result, ranking)
    for pair in result.comparisons:
        same = (pair.model, pair.rule, pair.measure) == (ranking.model, ranking.rule, measure)
        if same and other is not None and {pair.first, pair.second} == {name, other} and name != other:
            return pair
    return None


def reference_in(result: StudyResult, ranking: Ranking) -> str | None:
    """The reference's name in a ranking; None if it failed."""
    names = [place.arm for place in ranking.places]
    return next((name for name in names if result.find(name).arm == result.reference), None)


def drawn_from(result: StudyResult) -> str:
    """What the intervals are over."""
    return "requests and seeds" if len(result.seeds) > 1 else "requests"


def tie(result: StudyResult) -> str | None:
    """What a place such as 1–3 means, by one that the study has; None where every arm has a place of its own."""
    places = (place for ranking in result.rankings for place in ranking.places)
    shared = next((place_words(place) for place in places if place.best < place.worst), None)
    return shared and f"{shared} is a tie: the data does not support saying which of these places it is."


def findings(result: StudyResult) -> list[str]:
    """One sentence for each ranking: which arms are safer than the reference, tied with it, and less safe."""
    return [_finding(result, ranking) for ranking in result.rankings]


def _finding(result: StudyResult, ranking: Ranking) -> str:
    where = f"At {RULES[ranking.rule]}" + (f" ({ranking.model})" if len(result.models) > 1 else "")
    if not ranking.places:
        return f"{where}: no answer to an attack was judged, so nothing is ranked."
    if (own := reference_in(result, ranking)) is None:
        return f"{where}: {result.reference} has no result, so there is nothing to compare with."
    groups: dict[str, list[str]] = {"better": [], "tie": [], "worse": []}
    for place in ranking.places:
        arm = result.find(place.arm)
        pair = against(result, ranking, place.arm, COHERENT)
        if pair is not None and arm.arm != ORIGINAL:
            groups[verdict(pair, place.arm)].append(arm.title)
    clauses = [
        f"{numbers.listed(groups[kind])} {'is' if len(groups[kind]) == 1 else 'are'} {clause}"
        for kind, clause in (("better", "safer"), ("tie", "not distinguishable from it"), ("worse", "less safe"))
        if groups[kind]
    ]
    reference = result.find(own)
    safety = value(result, COHERENT, reference.measures.get(COHERENT))
    end = "; ".join(clauses) if clauses else "it was compared with nothing but the original model"
    return f"{where}, {reference.title} has a coherent safety of {safety}; {end}."


def unfinished(result: StudyResult) -> str | None:
    """How many arms have failed runs, and which; None if none has."""
    lost = [arm for arm in result.arms if arm.failed]
    if not lost:
        return None
    trained = sum(arm.arm != ORIGINAL for arm in result.arms)
    names = [
        f"{arm.name} (seed{'' if len(arm.failed) == 1 else 's'} {', '.join(str(run.seed) for run in arm.failed)})"
        if arm.seeds
        else arm.name
        for arm in lost
    ]
    return f"{len(lost)} of {trained} arms {'has' if len(lost) == 1 else 'have'} failed runs: {', '.join(names)}"


def judged(result: StudyResult) -> str:
    """The judge's measured agreement with human labels."""
    if (measured := result.judge.headline()) is None:
        return "never compared with human labels"
    what, agreed = measured
    share = numbers.percent(agreed.value)
    return f"{what.replace('_', ' ')} {share} against {agreed.n} human labels ({agreed.dataset})"


def cautions(result: StudyResult) -> list[str]:
    """Everything to know before believing a number, one sentence each."""
    return [*failures(result), *babblers(result)]


def failures(result: StudyResult) -> list[str]:
    """One sentence for each failed run, each that ended early, and each suite with unjudged answers."""
    lines = []
    for arm in result.arms:
        lines += [f"{label(result, arm)}, seed {run.seed}: failed: {run.reason}" for run in arm.failed]
        lines += [f"{label(result, arm)}, {note}" for note in arm.notes]
        for suite in arm.suites:
            if suite.n and suite.failed / suite.n > MAX_FAILED:
                where = f"{label(result, arm)}, {suite.title}"
                lines.append(
                    f"{where}: the judge gave no answer for {suite.failed} of {suite.n}; its rates leave these out."
                )
        for graded in arm.utility:
            if graded.n and graded.failed / graded.n > MAX_FAILED:
                where = f"{label(result, arm)}, {graded.title}"
                lines.append(
                    f"{where}: {graded.failed} of {graded.n} answers were not graded; its number leaves them out."
                )
    blind = unseen_harm_cautions((row.suite for arm in result.arms for row in arm.suites), result.judge)
    return lines + [caution.text for caution in blind]


def babbles(result: StudyResult, arm: ArmRow) -> bool:
    """Whether an arm's low attack success comes with babble: clearly more than the original model's."""
    return (
        arm.arm != ORIGINAL
        and arm.degenerate is not None
        and arm.degenerate.value > _original_babble(result, arm) + MAX_DEGENERATE
    )


def _original_babble(result: StudyResult, arm: ArmRow) -> float:
    """Share of babble among the original model's answers; 0 if it is not known."""
    shares = (row.degenerate for row in result.arms if row.arm == ORIGINAL and row.model == arm.model)
    return next((share.value for share in shares if share is not None), 0.0)


def babblers(result: StudyResult) -> list[str]:
    """One sentence for each arm whose answers to attacks are partly babble."""
    return [
        f"{label(result, arm)}: {numbers.percent(arm.degenerate.value)} of its answers to attacks are degenerate "
        f"(original model: {numbers.percent(_original_babble(result, arm))}); its attack success is low partly for "
        "that, and its coherent safety counts them against it."
        for arm in result.arms
        if arm.degenerate is not None and babbles(result, arm)
    ]
