"""What a study says in words; the page, the terminal and the Markdown page all take it from here."""

from collections.abc import Sequence

from unsay.reports import numbers
from unsay.run.cautions import unseen_harm_cautions
from unsay.scoring.limits import MAX_DEGENERATE, MAX_FAILED
from unsay.studies.schema import COHERENT, ArmRow, Comparison, Measure, Place, Ranking, StudyResult
from unsay.studies.settings import ORIGINAL

RULES = {"steps": "equal steps", "tokens": "equal tokens", "seconds": "equal seconds"}


def heading(result: StudyResult, ranking: Ranking) -> str:
    """What a ranking's arms have equal, and their model where there are several."""
    model = f", {ranking.model}" if len(result.models) > 1 else ""
    return f"{RULES[ranking.rule].capitalize()}: {ranking.limit}{model}"


def label(result: StudyResult, arm: ArmRow) -> str:
    """An arm's title, with its model and its rule where there are several."""
    parts = [arm.title]
    if len(result.models) > 1:
        parts.append(arm.model)
    if len(result.rankings) > len(result.models) and len(arm.rules) == 1:
        parts.append(RULES[arm.rules[0]])
    return ", ".join(parts)


def value(result: StudyResult, measure: str, found: Measure | None, *, digits: int = 1) -> str:
    """A measure in its unit."""
    if found is None:
        return numbers.DASH
    return numbers.percent(found.value, digits) if is_rate(result, measure) else numbers.plain(found.value)


def span(result: StudyResult, measure: str, found: Measure | None, *, digits: int = 1) -> str:
    """Its interval in its unit."""
    if found is None:
        return ""
    if is_rate(result, measure):
        return numbers.span(found.interval, digits)
    return f"{numbers.plain(found.interval.low)}–{numbers.plain(found.interval.high)}"


def is_rate(result: StudyResult, measure: str) -> bool:
    """Whether a measure is a share, to be shown in per cent."""
    return result.units.get(measure, "rate") == "rate"


def place_words(place: Place) -> str:
    """`2`, or `1–3` where the data cannot tell which of these it is."""
    return str(place.best) if place.best == place.worst else f"{place.best}{numbers.DASH}{place.worst}"


def difference_words(result: StudyResult, pair: Comparison, first: str) -> str:
    """Difference with its interval, as `first` minus the other arm."""
    sign = 1 if pair.first == first else -1
    low, high = sorted((sign * pair.interval.low, sign * pair.interval.high))
    show = numbers.points if is_rate(result, pair.measure) else _signed
    return f"{show(sign * pair.difference)} [{show(low)}, {show(high)}]"


def _signed(number: float) -> str:
    """Of what is no rate."""
    return f"{numbers.MINUS if number < 0 else '+'}{numbers.plain(abs(number))}"


def verdict(pair: Comparison, first: str) -> str:
    """`better`, `worse` or `tie`, of `first` against the other arm."""
    return "tie" if pair.better is None else "better" if pair.better == first else "worse"


def against(result: StudyResult, ranking: Ranking, name: str, measure: str) -> Comparison | None:
    """The comparison of an arm with the reference under a ranking's rule; None for the reference itself."""
    other = reference_in(result, ranking)
    for pair in result.comparisons:
        same = (pair.model, pair.rule, pair.measure) == (ranking.model, ranking.rule, measure)
        if same and other is not None and {pair.first, pair.second} == {name, other} and name != other:
            return pair
    return None


def reference_in(result: StudyResult, ranking: Ranking) -> str | None:
    """The name that the reference has in a ranking; None if it failed."""
    names = [place.arm for place in ranking.places]
    return next((name for name in names if result.find(name).arm == result.reference), None)


def findings(result: StudyResult) -> list[str]:
    """One sentence for each ranking: what beat the reference, what tied with it, and what fell behind."""
    said = []
    for ranking in result.rankings:
        own = reference_in(result, ranking)
        where = f"At {RULES[ranking.rule]}" + (f" ({ranking.model})" if len(result.models) > 1 else "")
        if not ranking.places:
            said.append(f"{where}: no answer to an attack was judged, so nothing is ranked.")
            continue
        if own is None:
            said.append(f"{where}: {result.reference} has no result, so there is nothing to compare with.")
            continue
        groups: dict[str, list[str]] = {"better": [], "tie": [], "worse": []}
        for place in ranking.places:
            arm = result.find(place.arm)
            pair = against(result, ranking, place.arm, COHERENT)
            if pair is not None and arm.arm != ORIGINAL:
                groups[verdict(pair, place.arm)].append(arm.title)
        mine = result.find(own)
        safety = value(result, COHERENT, mine.measures.get(COHERENT))
        words = [
            f"{_listed(groups[kind])} {'is' if len(groups[kind]) == 1 else 'are'} {said_as}"
            for kind, said_as in (("better", "safer"), ("tie", "not distinguishable from it"), ("worse", "less safe"))
            if groups[kind]
        ]
        end = "; ".join(words) if words else "it was compared with nothing but the untrained model"
        said.append(f"{where}, {mine.title} has a coherent safety of {safety}; {end}.")
    return said


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def unfinished(result: StudyResult) -> str | None:
    """How many arms have runs without a result, and which; None if none has."""
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
    """How often the judge agrees with people."""
    if (measured := result.judge.headline()) is None:
        return "never compared with human labels"
    what, agreed = measured
    share = numbers.percent(agreed.value)
    return f"{what.replace('_', ' ')} {share} against {agreed.n} human labels ({agreed.dataset})"


def cautions(result: StudyResult) -> list[str]:
    """What a reader must know before believing a number, one sentence each."""
    return [*failures(result), *babblers(result)]


def failures(result: StudyResult) -> list[str]:
    """One sentence for each run without a result, each that ended early, and each suite that was not wholly judged."""
    said = []
    for arm in result.arms:
        said += [f"{label(result, arm)}, seed {run.seed}: failed: {run.reason}" for run in arm.failed]
        said += [f"{label(result, arm)}, {note}" for note in arm.notes]
        for suite in arm.suites:
            if suite.n and suite.failed / suite.n > MAX_FAILED:
                where = f"{label(result, arm)}, {suite.title}"
                said.append(
                    f"{where}: the judge gave no answer for {suite.failed} of {suite.n}; its rates leave these out."
                )
        for graded in arm.utility:
            if graded.n and graded.failed / graded.n > MAX_FAILED:
                where = f"{label(result, arm)}, {graded.title}"
                said.append(
                    f"{where}: {graded.failed} of {graded.n} answers were not graded; its number leaves them out."
                )
    blind = unseen_harm_cautions((row.suite for arm in result.arms for row in arm.suites), result.judge)
    return said + [caution.text for caution in blind]


def babbles(result: StudyResult, arm: ArmRow) -> bool:
    """Whether its low attack success is bought with coherence: it babbles, and more than its model did untrained."""
    return (
        arm.arm != ORIGINAL
        and arm.degenerate is not None
        and arm.degenerate.value > max(MAX_DEGENERATE, untrained_babble(result, arm))
    )


def untrained_babble(result: StudyResult, arm: ArmRow) -> float:
    """Share of babble among the answers that an arm's model gave untrained; 0 where that is not known."""
    found = (row.degenerate for row in result.arms if row.arm == ORIGINAL and row.model == arm.model)
    return next((share.value for share in found if share is not None), 0.0)


def babblers(result: StudyResult) -> list[str]:
    """One sentence for each arm whose answers to attacks are partly babble."""
    return [
        f"{label(result, arm)}: {numbers.percent(arm.degenerate.value)} of its answers to attacks are degenerate, "
        f"untrained {numbers.percent(untrained_babble(result, arm))}; its attack success is low partly for that, and "
        "its coherent safety counts them against it."
        for arm in result.arms
        if arm.degenerate is not None and babbles(result, arm)
    ]
