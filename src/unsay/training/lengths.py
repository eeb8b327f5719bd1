"""What rows of a batch have in common, and which of them are of like length; told on the host, from token ids."""

from collections.abc import Sequence

from unsay.training.encoding import Encoded

WASTE = 0.15
"""Padding that a group may have, as a share of its size, before another group is begun."""

MIN_PREFIX = 8
"""Tokens: a shorter common prefix is not worth a forward of its own."""


def common_prefix(rows: Sequence[Encoded]) -> int:
    """Tokens that begin every row alike, and that come before any picture and the first predicting position.

    Zero where they are too few to be worth anything.
    """
    limit = min(len(row.prompt_ids) - 1 for row in rows)
    limit = min([limit, *(min(row.picture.columns) for row in rows if row.picture is not None and row.picture.columns)])
    for place, tokens in enumerate(zip(*(row.prompt_ids[:limit] for row in rows), strict=True)):
        if len(set(tokens)) > 1:
            limit = place
            break
    return limit if limit >= MIN_PREFIX else 0


def length_groups(lengths: Sequence[int]) -> list[list[int]]:
    """Rows by descending length, cut into groups whose padding stays below `WASTE` of the group's size."""
    groups: list[list[int]] = []
    for row in sorted(range(len(lengths)), key=lambda row: (-lengths[row], row)):
        if groups:
            group = groups[-1]
            size = lengths[group[0]] * (len(group) + 1)
            if size - sum(lengths[member] for member in group) - lengths[row] <= WASTE * size:
                group.append(row)
                continue
        groups.append([row])
    return groups


def read_lengths(rows: Sequence[Encoded]) -> list[int]:
    """How much of each row is read: all but its last token, which is only predicted."""
    return [row.length - 1 for row in rows]


def attention_groups(lengths: Sequence[int], on_cpu: bool) -> list[list[int]]:
    """Rows that go through attention side by side.

    A group costs little arithmetic but many launches: worth it on a CPU, not on an accelerator.
    """
    return length_groups(lengths) if on_cpu else [list(range(len(lengths)))]
