"""Which rows a limited suite asks: the same every time, in the proportions of the whole."""

from collections import defaultdict
from collections.abc import Sequence

from unsay.files import content_key


def order(rows: Sequence[str], strata: Sequence[str | None] | None = None) -> list[int]:
    """All indices, in the order in which growing limits take them.

    Within a stratum, rows come in the order of a hash of their text. Strata get their shares by Webster's method
    (Sainte-Laguë), which is what ordering by (rank in the stratum + ½) ÷ size of the stratum comes to.

    Args:
        rows: the texts.
        strata: the category of each; None for one stratum.
    """
    groups: defaultdict[str | None, list[int]] = defaultdict(list)
    for index, stratum in enumerate(strata if strata is not None else [None] * len(rows)):
        groups[stratum].append(index)
    hashes = [content_key("sample", row) for row in rows]
    places = [
        ((rank + 0.5) / len(members), hashes[index], index)
        for members in groups.values()
        for rank, index in enumerate(sorted(members, key=hashes.__getitem__))
    ]
    return [index for _, _, index in sorted(places)]


def sample(rows: Sequence[str], limit: int | None, strata: Sequence[str | None] | None = None) -> list[int]:
    """Indices of at most `limit` texts, in row order; a smaller limit asks a part of what a larger one asks.

    Args:
        rows: the texts.
        limit: None for all.
        strata: see `order`.
    """
    return sorted(order(rows, strata)[:limit])


def sample_units(units: Sequence[str], limit: int | None, strata: Sequence[str | None]) -> list[int]:
    """As `sample`, but rows of one unit stay together: the first unit that would pass the limit ends the choice.

    Args:
        units: what each row belongs to, for instance its picture.
        limit: rows at most; None for all.
        strata: the category of each row; a unit has that of its first.
    """
    members: dict[str, list[int]] = {}
    for index, unit in enumerate(units):
        members.setdefault(unit, []).append(index)
    names = list(members)
    chosen: list[int] = []
    for place in order(names, [strata[members[name][0]] for name in names]):
        rows = members[names[place]]
        if limit is not None and len(chosen) + len(rows) > limit:
            break
        chosen += rows
    return sorted(chosen)
