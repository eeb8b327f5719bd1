"""The plan of a training run: method, settings and the rows of every step, checked once before anything is computed.

`plan_training` makes it; the run, the studies and `unsay plan` hand it on, and the trainer follows it without a check.
"""

import random
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

from unsay.errors import UserError
from unsay.files import content_key, file_key
from unsay.methods import METHODS, build_method, method_version
from unsay.methods.base import Companion, Method, Needs, Part, block_numbers
from unsay.models.lora import LoraSettings, language_linears
from unsay.models.sharding import check_shardable
from unsay.models.vlm import VLM
from unsay.records import Example, Role
from unsay.training.adversary import HARMFUL
from unsay.training.adversary import VERSION as ATTACK_VERSION
from unsay.training.companions import CompanionExample, Companions, part_of, shuffled_forever
from unsay.training.encode import encode
from unsay.training.pairing import Pairs, in_turn_forever
from unsay.training.settings import TrainSettings

BENT = "train.adversarial.layers"
MIXING = 2
"""Version of how forget and refuse rows are drawn by shares: raised by hand when the same shares draw other rows."""
LATER = ("subject", "prefix")
"""Fields of an example that came after keys that must stay what they are."""


@dataclass(frozen=True)
class TrainingPlan:
    """What a training run does.

    Attributes:
        method: the loss.
        settings: of the training.
        examples: training examples of every role that the method needs; empty where no data was given.
        probe: held-out retain examples that are watched for collapse.
        steps: the examples of every step, companions included.
        key: content key of everything above and of the method's version; the model is not part of it.
    """

    method: Method
    settings: TrainSettings
    examples: Sequence[Example] = ()
    probe: Sequence[Example] = ()
    steps: Sequence[Sequence[Example]] = ()
    key: str = ""

    @property
    def needs(self) -> Needs:
        """What the method needs of a batch."""
        return self.method.needs

    @property
    def rows(self) -> dict[Part, int]:
        """Rows of each part in one step: the settings' of a role, and as many companions."""
        companions, batch = self.needs.companions, self.settings.batch
        return {part: batch.of(part if isinstance(part, Role) else companions[part]) for part in self.needs.parts}

    @property
    def pictured(self) -> bool:
        """Whether any example has a picture, those of the probe included."""
        return any(example.image is not None for example in (*self.examples, *self.probe))

    def most_reads(self, steps: int | None = None) -> dict[Role, int]:
        """How often the first `steps` steps (default: all) read their most read row of each role, companions aside."""
        rows = (row for step in self.steps[:steps] for row in step if not isinstance(row, CompanionExample))
        most: dict[Role, int] = {}
        for (role, _), count in Counter((row.role, row.id) for row in rows).items():
            most[role] = max(count, most.get(role, 0))
        return most


def plan_training(
    method: Method,
    settings: TrainSettings,
    examples: Sequence[Example] | None = None,
    probe: Sequence[Example] = (),
    *,
    vlm: VLM | None = None,
    processes: int = 1,
    sharded: bool = False,
    mixes: Mapping[Role, Mapping[str, float]] | None = None,
    key: str = "",
) -> TrainingPlan:
    """A checked plan.

    Args:
        method: the loss.
        settings: see `TrainSettings`.
        examples: training examples; None checks what the settings alone decide.
        probe: held-out retain examples; with none, collapse is not watched.
        vlm: the original model, or its tokenizer where the method reads no hidden states and no layers are split; None
            leaves lengths, blocks and splitting unchecked.
        processes: how many train together.
        sharded: whether the model's layers are split over them.
        mixes: shares of forget and refuse rows by source; of a role without one, every row is drawn alike.
        key: content key of whatever else decides the result, the method's settings above all.

    Raises:
        UserError: rows that the processes cannot share, a role without examples or rows, an unknown source in the mix,
            a companion that cannot be made, two examples of one id, a missing picture, an original model that cannot be
            cached, an example that is too long, a block that the model does not have, layers that cannot be split, or a
            method class that is written in no file.
    """
    needs = method.needs
    _check_batch(needs, settings, processes)
    if examples is None:
        return TrainingPlan(method, settings)
    steps = steps_of(examples, needs, settings, mixes)
    _check_ids([*examples, *probe])
    if settings.reference == "cached":
        _check_cacheable(steps, needs)
    if needs.edit is not None:
        _check_edit(settings, probe, sharded)
    if sharded and settings.adversarial is not None:
        raise UserError(
            "train.adversarial: a model that is split over processes cannot be attacked: launch with ddp, or set it to "
            "null"
        )
    if vlm is not None:
        _check_lengths(vlm, [*examples, *probe], settings)
        depth = len(vlm.layers) if needs.hidden or settings.adversarial else 0
        named = {n for blocks in needs.hidden.values() if blocks != "all" for n in block_numbers(blocks, depth)}
        _check_blocks(vlm, named, settings.lora, "method_settings")
        if settings.adversarial is not None:
            bent = set(block_numbers(settings.adversarial.layers, depth, BENT))
            _check_blocks(vlm, bent, settings.lora, BENT)
            if (top := _highest_read(needs, depth)) is not None and min(bent) >= top:
                raise UserError(
                    f"{BENT}: the method reads harmful rows behind block {top}; what is added there or above changes "
                    "nothing that it reads: name a lower block"
                )
        if sharded:
            check_shardable(vlm, examples)
    contents = [_content(example) for example in (*examples, *probe)]
    mixed = [[MIXING, mixes]] if mixes else []
    attacked = [ATTACK_VERSION] if settings.adversarial is not None else []
    key = content_key(
        key, *mixed, *attacked, type(method).__name__, method_version(method), settings.decisive(), contents
    )
    return TrainingPlan(method, settings, tuple(examples), tuple(probe), steps, key)


def _highest_read(needs: Needs, depth: int) -> int | None:
    """The highest block whose states a method reads of harmful rows; None if it reads what the model makes of them."""
    read = [needs.hidden.get(part) for part in needs.parts if part in HARMFUL]
    if not read or any(blocks is None or blocks == "all" for blocks in read):
        return None
    return max(block for blocks in read if blocks is not None for block in block_numbers(blocks, depth))


def methods_without(role: Role) -> list[str]:
    """Names of the methods that, with their default settings, need no examples of a role."""
    return [name for name in METHODS if role not in build_method(name).needs.roles]


def steps_of(
    examples: Sequence[Example],
    needs: Needs,
    settings: TrainSettings,
    mixes: Mapping[Role, Mapping[str, float]] | None = None,
) -> list[list[Example]]:
    """The examples of every step: forget, refuse, retain, then their companions.

    All steps are planned before training, so that a resumed run sees the batches of an uninterrupted one. Within a
    role, and with a mix within a source, every example is used once before any is used twice. By subject that holds for
    retain rows within a source.

    Raises:
        UserError: a role that the method needs has no examples, an unknown source in the mix, or a companion
            that cannot be made, or rows by subject where no harmful row has one.
    """
    check_roles(needs, examples)
    streams: dict[Role, Iterator[Example]] = {}
    for role in Role:  # in this order: a set's own differs from process to process
        if role not in needs.roles:
            continue
        pool = sorted((example for example in examples if example.role == role), key=lambda example: example.id)
        rng = random.Random(f"{settings.seed}/{role.value}")
        mix = settings.retain_mix if role is Role.RETAIN else (mixes or {}).get(role)
        if mix is not None:
            setting = "train.retain_mix" if role is Role.RETAIN else f"data.{role.value}"
            streams[role] = _mixed_forever(pool, mix, rng, setting)
        elif settings.batch_by == "subject" and role is not Role.RETAIN:
            streams[role] = in_turn_forever(pool, rng)
        else:
            streams[role] = shuffled_forever(pool, rng)
    pairs = _pairs(examples, settings) if settings.batch_by == "subject" else None
    makers = {kind: Companions(kind, examples, settings.seed) for kind in Companion if kind in needs.companions}
    steps = []
    for _ in range(settings.steps):
        rows = [next(stream) for role, stream in streams.items() for _ in range(settings.batch.of(role))]
        if pairs is not None:
            rows = _paired(rows, pairs)
        for kind, companions in makers.items():
            rows += [companions.of(row) for row in rows if part_of(row) == needs.companions[kind]]
        steps.append(rows)
    return steps


def _pairs(examples: Sequence[Example], settings: TrainSettings) -> Pairs:
    if not any(example.subject for example in examples if example.role is not Role.RETAIN):
        raise UserError("train.batch_by: no forget or refuse example has a subject; add it to the rows, or set chance")
    pool = [example for example in examples if example.role is Role.RETAIN and example.subject is not None]
    return Pairs(sorted(pool, key=lambda example: example.id), random.Random(f"{settings.seed}/pairs"))


def _paired(rows: Sequence[Example], pairs: Pairs) -> list[Example]:
    """The rows, with every retain row that has a subject replaced by one of its source that is like a harmful row.

    Refuse rows come first: they are what an over-cautious model learns from. With more retain rows than harmful ones, a
    harmful row has several beside it.
    """
    harmful = [row for role in (Role.REFUSE, Role.FORGET) for row in rows if row.role is role]
    turns = cycle(harmful)
    replaced = (row.role is Role.RETAIN and row.subject is not None and bool(harmful) for row in rows)
    return [
        pairs.beside(next(turns), row.source) if replace else row for row, replace in zip(rows, replaced, strict=True)
    ]


def _mixed_forever(
    pool: Sequence[Example], mix: Mapping[str, float], rng: random.Random, setting: str
) -> Iterator[Example]:
    """Rows by the shares of their sources (source → share), within a source each once before any twice."""
    by_source: dict[str, list[Example]] = {}
    for example in pool:
        by_source.setdefault(example.source, []).append(example)
    for source in mix:
        if source not in by_source:
            role = pool[0].role.value
            raise UserError(f"{setting}: no {role} examples from '{source}'; known are {', '.join(sorted(by_source))}")
    sources = [source for source, share in mix.items() if share > 0]
    if not sources:
        raise UserError(f"{setting}: every share is 0")
    shares = [mix[source] for source in sources]
    rows = {source: shuffled_forever(by_source[source], rng) for source in sources}
    while True:
        yield next(rows[rng.choices(sources, shares)[0]])


def check_roles(needs: Needs, examples: Sequence[Example]) -> None:
    """Assert that there are examples of every role that a method needs."""
    given = {example.role for example in examples}
    if missing := next((role for role in Role if role in needs.roles - given), None):
        others = ", ".join(methods_without(missing))
        raise UserError(
            f"training data: no {missing.value} examples, but the method needs that role: add rows of role "
            f"'{missing.value}' to data.examples, or take a method that needs none ({others})"
        )


def _check_batch(needs: Needs, settings: TrainSettings, processes: int) -> None:
    """Assert that every role that the method needs has rows, and that they divide by the processes and turns."""
    count = processes * settings.accumulate
    for role in sorted(needs.roles):
        if settings.batch.of(role) == 0:
            raise UserError(f"train.batch.{role.value}: is 0, but the method needs that role")
        if settings.batch.of(role) % count:
            raise UserError(
                f"train.batch.{role.value}: {settings.batch.of(role)} rows do not divide by {processes} processes × "
                f"{settings.accumulate} turns (train.accumulate): make it a multiple of {count}"
            )


def _check_ids(examples: Sequence[Example]) -> None:
    id_, count = Counter(example.id for example in examples).most_common(1)[0]
    if count > 1:
        raise UserError(f"training data: two examples have the id {id_}")


def _check_cacheable(steps: Sequence[Sequence[Example]], needs: Needs) -> None:
    """Assert that what the method needs of the original model can be cached: log-probabilities of text."""
    if needs.reference_hidden:
        raise UserError("train.reference: the method compares hidden states, which are not cached: set it to live")
    read = (example for rows in steps for example in rows if part_of(example) in needs.original)
    if (pictured := next((example.id for example in read if example.image is not None), None)) is not None:
        raise UserError(f"train.reference: example {pictured} has a picture; only text is cached: set it to live")


def _check_edit(settings: TrainSettings, probe: Sequence[Example], sharded: bool) -> None:
    """Assert that an edit of the weights has something to stop it, and weights that are whole."""
    if not probe:
        raise UserError(
            "training data: the method goes as far as held-out normal answers allow, and there are none: give at least "
            "10 retain examples, of which a tenth is held out, and data.recipe.probe above 0"
        )
    if sharded:
        raise UserError("method: a model that is split over processes cannot be edited: launch with ddp")


def _check_blocks(vlm: VLM, named: set[int], lora: LoraSettings, setting: str) -> None:
    """Assert that an adapter with these settings can change the output of every named block."""
    if not named:
        return
    names = set(language_linears(vlm, lora))
    adapted = {id(module) for name, module in vlm.base.named_modules() if name in names}
    lowest = next(number for number, layer in enumerate(vlm.layers) if any(id(m) in adapted for m in layer.modules()))
    if min(named) < lowest:
        raise UserError(
            f"{setting}: block {min(named)} lies below the lowest adapted one, {lowest}, so training could "
            "not change its output: name a higher block, or adapt more with train.lora.layers"
        )


def _check_lengths(vlm: VLM, examples: Sequence[Example], settings: TrainSettings) -> None:
    """Assert that the words of all examples can be encoded; no picture is opened."""
    for example in examples:
        encode(
            vlm,
            example.model_copy(update={"image": None}),
            max_prompt_tokens=settings.max_prompt_tokens,
            max_answer_tokens=settings.max_answer_tokens,
        )


def _content(example: Example) -> dict[str, object]:
    """Every field of an example, but for those of `LATER` that it does not have, so that older keys stay what they are.

    Its picture stands by content, since the file may lie elsewhere tomorrow.
    """
    content = example.model_dump(mode="json", exclude={name for name in LATER if getattr(example, name) is None})
    return content if example.image is None else {**content, "image": file_key(Path(example.image))}
