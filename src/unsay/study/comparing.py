"""Pairs of arms, and the ranking that follows from them."""

from collections.abc import Mapping, Sequence
from itertools import combinations

from unsay.scoring import difference_interval, holm, sign_flip
from unsay.scoring.sign_flip import FLIPS
from unsay.study.outcomes import Outcomes
from unsay.study.schema import COHERENT, Comparison, Place, Ranking
from unsay.study.settings import Rule

ALPHA = 0.05

FLIPS_A_PAIR = 200
"""Random sign flips for each pair of arms: the smallest p that they can show stays small after the correction."""


def compare(
    model: str, rule: Rule, measure: str, arms: Mapping[str, Outcomes], *, higher_is_better: bool
) -> list[Comparison]:
    """All pairs of arms on the answers that both have, corrected together.

    Arms without an answer in common are not compared. Of two arms one is better only where the corrected p is below
    `ALPHA` and the interval over requests and seeds leaves out 0: the test alone knows nothing of the luck of a seed.

    Args:
        model: the model.
        rule: what the arms have equal.
        measure: which.
        arms: name → its answers.
        higher_is_better: of the measure.
    """
    pairs = []
    for first, second in combinations(arms, 2):
        mine, theirs = (arms[name].measures.get(measure, {}) for name in (first, second))
        cells = [cell for cell in mine if cell in theirs]
        if cells:
            differences = [mine[cell] - theirs[cell] for cell in cells]
            groups = [arms[first].group(cell) for cell in cells]
            pairs.append((first, second, differences, groups, [cell.seed for cell in cells]))
    flips = max(FLIPS, FLIPS_A_PAIR * len(pairs))
    p_values = [sign_flip(differences, groups, flips=flips) for _, _, differences, groups, _ in pairs]
    found = []
    for (first, second, differences, groups, seeds), p, corrected in zip(pairs, p_values, holm(p_values), strict=True):
        interval = difference_interval(differences, groups, seeds)
        mean = sum(differences) / len(differences)
        clear = corrected < ALPHA and (interval.low > 0 or interval.high < 0)
        winner = (first if (mean > 0) == higher_is_better else second) if clear else None
        found.append(
            Comparison(
                model=model,
                rule=rule,
                measure=measure,
                first=first,
                second=second,
                n=len(differences),
                requests=len(set(groups)),
                difference=mean,
                interval=interval,
                p=p,
                p_holm=corrected,
                better=winner,
            )
        )
    return found


def rank(
    model: str, rule: Rule, limit: str, arms: Mapping[str, Outcomes], comparisons: Sequence[Comparison]
) -> Ranking:
    """Arms by coherent safety, each with the places that the data leaves open to it.

    The best is one more than the number of arms that are better by the test, the worst leaves out those that are worse.

    Coherent safety and not attack success decides: a model that babbles complies with nothing.
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
