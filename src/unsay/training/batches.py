"""Which examples stand in which batch, their token ids, and how a batch is split.

Which examples stand in which batch: a pure function of the examples, the settings and the seed.

Batches as token ids, made when they are asked for.

A plan may be several times as long as what its budget lets be done, and laying out a picture takes time. So a picture
is laid out when its step comes, which is also when the run's clock is running; text, whose mistakes are worth finding
before training starts, is encoded at once.

How a step's batch is split: over processes, and over turns where gradients are accumulated.

`train.batch` is the batch of one optimiser step, however many processes make it. Every loss is a mean over the rows of
its role, so the mean over equal shares is the loss of the whole.
"""

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import overload

from unsay.errors import UserError
from unsay.methods import METHODS, build_method
from unsay.methods.base import Companion, Needs, Part
from unsay.models.vlm import VLM
from unsay.records import Example, Role
from unsay.training.companions import CompanionExample, Companions, part_of, shuffled_forever
from unsay.training.encode import Encoded, encode
from unsay.training.plan import TrainSettings


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


class Encoder:
    """A run's examples as token ids; each is encoded once."""

    def __init__(self, vlm: VLM, examples: Sequence[Example], settings: TrainSettings) -> None:
        """Encode those without a picture.

        Raises:
            UserError: two examples have the same id, or an example cannot be encoded.
        """
        self.vlm, self.settings = vlm, settings
        self._known: dict[str, Encoded] = {}
        seen: set[str] = set()
        for example in examples:
            if example.id in seen:
                raise UserError(f"training data: two examples have the id {example.id}")
            seen.add(example.id)
            if example.image is None:
                self.of(example)

    def of(self, example: Example) -> Encoded:
        """One example.

        Raises:
            UserError: it cannot be encoded.
        """
        if example.id not in self._known:
            self._known[example.id] = encode(
                self.vlm,
                example,
                max_prompt_tokens=self.settings.max_prompt_tokens,
                max_answer_tokens=self.settings.max_answer_tokens,
            )
        return self._known[example.id]


class Batches(Sequence[list[Encoded]]):
    """Batches of examples, encoded when one is looked at."""

    def __init__(self, encoder: Encoder, batches: Sequence[Sequence[Example]]) -> None:
        self._encoder, self._batches = encoder, batches

    def __len__(self) -> int:
        return len(self._batches)

    @overload
    def __getitem__(self, index: int) -> list[Encoded]: ...
    @overload
    def __getitem__(self, index: slice) -> list[list[Encoded]]: ...
    def __getitem__(self, index: int | slice) -> list[Encoded] | list[list[Encoded]]:
        if isinstance(index, slice):
            return [self[number] for number in range(*index.indices(len(self)))]
        return [self._encoder.of(example) for example in self._batches[index]]


def check_shares(needs: Needs, settings: TrainSettings, processes: int) -> None:
    """Before anything is computed: every role's rows divide by the shares.

    Raises:
        UserError: names the role.
    """
    count = processes * settings.accumulate
    for role in needs.roles:
        if settings.batch.of(role) % count:
            raise UserError(
                f"train.batch.{role.value}: {settings.batch.of(role)} rows do not divide by {processes} processes × "
                f"{settings.accumulate} turns (train.accumulate): make it a multiple of {count}"
            )


def shares(examples: Sequence[Encoded], count: int) -> list[list[Encoded]]:
    """`count` equal parts of a batch: row i of every role, and of every companion, goes to part i % count.

    Row i of a companion belongs to row i of its role, so what is compared stays together.
    """
    parts: list[list[Encoded]] = [[] for _ in range(count)]
    seen: dict[Part, int] = {}
    for example in examples:
        place = seen.get(example.role, 0)
        parts[place % count].append(example)
        seen[example.role] = place + 1
    return parts
