"""Which examples stand in which batch: a pure function of the examples, the settings and the seed."""

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

from unsay.errors import UserError
from unsay.methods import METHODS, build_method
from unsay.methods.base import Companion, Needs
from unsay.records import Example, Role
from unsay.training.companions import CompanionExample, Companions, part_of, shuffled_forever
from unsay.training.settings import TrainSettings


def batches(examples: Sequence[Example], needs: Needs, settings: TrainSettings) -> list[list[Example]]:
    """The examples of every step, forget first, then refuse, then retain, then the companions of these.

    The plan is made whole before training, so that a resumed run sees the same batches as an uninterrupted one. Within
    a role, and with a mix within a source, every example is used once before any is used twice.

    Raises:
        UserError: a role that the method needs has no examples or no place in the batch, or a row's companion cannot be
            made.
    """
    streams: dict[Role, Iterator[Example]] = {}
    for role in Role:  # in this order: a set's own differs from process to process
        if role not in needs.roles:
            continue
        pool = sorted((example for example in examples if example.role == role), key=lambda example: example.id)
        if not pool:
            others = ", ".join(methods_without(role))
            raise UserError(
                f"training data: no {role.value} examples, but the method needs that role: add rows of role "
                f"'{role.value}' to data.examples, or take a method that needs none ({others})"
            )
        if settings.batch.of(role) == 0:
            raise UserError(f"train.batch.{role.value}: is 0, but the method needs that role")
        rng = random.Random(f"{settings.seed}/{role.value}")
        mix = settings.retain_mix if role is Role.RETAIN else None
        streams[role] = shuffled_forever(pool, rng) if mix is None else _mixed_forever(pool, mix, rng)
    made = {kind: Companions(kind, examples, settings.seed) for kind in Companion if kind in needs.companions}
    plan = []
    for _ in range(settings.steps):
        rows = [next(stream) for role, stream in streams.items() for _ in range(settings.batch.of(role))]
        for kind, companions in made.items():
            rows += [companions.of(row) for row in rows if part_of(row) == needs.companions[kind]]
        plan.append(rows)
    return plan


def methods_without(role: Role) -> list[str]:
    """Names of the methods that, with their default settings, need no examples of a role."""
    return [name for name in METHODS if role not in build_method(name).needs.roles]


def most_reads(plan: Sequence[Sequence[Example]]) -> dict[Role, int]:
    """How often a plan reads its most read row of each role; rows that are made for others do not count."""
    read = Counter((row.role, row.id) for rows in plan for row in rows if not isinstance(row, CompanionExample))
    most: dict[Role, int] = {}
    for (role, _), times in read.items():
        most[role] = max(times, most.get(role, 0))
    return most


def _mixed_forever(pool: Sequence[Example], mix: Mapping[str, float], rng: random.Random) -> Iterator[Example]:
    known = {example.source for example in pool}
    for source in mix:
        if source not in known:
            raise UserError(
                f"train.retain_mix: no retain examples from '{source}'; there are {', '.join(sorted(known))}"
            )
    sources = [source for source, share in mix.items() if share > 0]
    if not sources:
        raise UserError("train.retain_mix: every share is 0")
    shares = [mix[source] for source in sources]
    by_source = {
        source: shuffled_forever([example for example in pool if example.source == source], rng) for source in sources
    }
    while True:
        yield next(by_source[rng.choices(sources, shares)[0]])
