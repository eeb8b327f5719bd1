"""What a suite is, how the rows of a data set become its prompts, and which of them a limited run asks."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from unsay.data import typography
from unsay.data.published import Pictures, Published
from unsay.data.splits import prompt_key
from unsay.files import content_key
from unsay.records import Condition, Kind, Modality, Prompt, Response, SourceRow, Turn

GRADER = "endpoint"
"""The judge that can grade open answers."""


@dataclass(frozen=True)
class Setting:
    """Where and how large a suite is built.

    Attributes:
        images: folder for the pictures that a suite renders.
        limit: at most so many prompts, the same ones every time; None for all.
    """

    images: Path
    limit: int | None = None


@dataclass(frozen=True)
class Item:
    """One row of a data set, before it is sampled.

    Attributes:
        text: what the model is given in words.
        request: what is asked, if that is not the text itself.
        category: of harm, or of the question; limits are stratified by it.
        image: gives the picture's path; called only for rows that are asked, since it may fetch the picture.
        render: makes the picture; called only for rows that are asked.
        image_type: what kind of picture it is, where a set has several.
        condition: what its picture is, where that is not the suite's: a set may hold pictures that say nothing.
        key: tells rows of one request apart.
        label: tells requests of equal words apart, for instance the picture that they are about.
        cluster: what its answer rises and falls with, where that is more than its own request.
        unit: rows of one unit are asked together or not at all.
        system: a system prompt of its own.
        turns: the conversation before it.
        reference: the right answer.
        choices: the possible answers.
        answers: all right answers.
        context: what the request speaks of, where that is a text of its own.
    """

    text: str
    request: str | None = None
    category: str | None = None
    image: Callable[[], Path] | None = None
    render: Callable[[], Image.Image] | None = None
    image_type: str | None = None
    condition: Condition | None = None
    key: str = ""
    label: str = ""
    cluster: str = ""
    unit: str = ""
    system: str | None = None
    turns: tuple[Turn, ...] = ()
    reference: str | None = None
    choices: tuple[str, ...] = ()
    answers: tuple[str, ...] = ()
    context: str | None = None


Total = Callable[[Sequence[Prompt], Sequence[float]], float]
"""The prompts of a suite and the value of each → one number."""


@dataclass(frozen=True)
class Measure:
    """How a utility suite turns answers into numbers.

    Attributes:
        value: prompt and response → the number of one item.
        unit: `rate` for fractions, else what stands beside the number.
        higher_is_better: False for error rates.
        total: how the items' numbers become the suite's; None takes their mean.
        parts: further official numbers, by name; fractions.
    """

    value: Callable[[Prompt, Response], float]
    unit: str = "rate"
    higher_is_better: bool = True
    total: Total | None = None
    parts: Mapping[str, Total] | None = None


@dataclass(frozen=True)
class Grade:
    """How a judge model grades one answer of a utility suite.

    Attributes:
        ask: prompt and response → the message to the judge model.
        read: its reply → the value and its weight; raises ValueError where the reply cannot be read.
        unit: `rate` for fractions, else what stands beside the number.
    """

    ask: Callable[[Prompt, Response], str]
    read: Callable[[str], tuple[float, float]]
    unit: str = "rate"


@dataclass(frozen=True)
class Suite:
    """One set of prompts, of one kind and modality, under one condition.

    Attributes:
        name: how it is called on the command line and in files.
        title: how it is called in reports.
        kind: attack, benign or utility.
        modality: how the request reaches the model.
        source: where the prompts come from.
        licence: of the data.
        items: reads the rows of its data set.
        build: makes its prompts where sampling `items` is not all there is to it; takes the suite.
        size: how many prompts it has without a limit; None where that depends on the files at hand.
        twin: for the image form of a text suite, that suite's name: the same requests in words.
        measure: for utility suites that are generated, the score of one answer.
        likelihood: a utility suite that is scored by the loss on its reference answers, in nats per token; nothing is
            generated.
        choose: a utility suite that is scored by the log-probabilities of its choices; nothing is generated.
        condition: what is shown beside the words; None for what its modality says.
        bare: whether every prompt is its bare request, so that a picture of the request asks the same.
        grade: a utility suite whose answers a judge model grades; it needs the judge `endpoint`.
        harm_in_picture: whether what is harmful about a request is in its picture, so that a judge that reads words
            alone cannot know.
        borderline: of a benign suite, whether its requests sound harmful.
        by_category: whether a utility suite's number is also given for each category.
        files: the published files that it is made of; none for suites that need no benchmark data.
        version: raised by hand when its prompts or its measure change; finished stages and studies go by it.
    """

    name: str
    title: str
    kind: Kind
    modality: Modality
    source: str
    licence: str
    items: Callable[[], Sequence[Item]] = tuple
    build: Callable[["Suite", Setting], list[Prompt]] | None = None
    size: int | None = None
    twin: str | None = None
    measure: Measure | None = None
    likelihood: bool = False
    choose: Callable[[Prompt, Sequence[float]], float] | None = None
    condition: Condition | None = None
    bare: bool = True
    grade: Grade | None = None
    harm_in_picture: bool = False
    borderline: bool = False
    by_category: bool = False
    files: tuple[Published | Pictures, ...] = ()
    version: int = 1

    @property
    def shown(self) -> Condition:
        """Its condition."""
        if self.condition is not None:
            return self.condition
        return Condition.NO_IMAGE if self.modality is Modality.TEXT else Condition.REAL

    @property
    def needs_data(self) -> bool:
        """Whether it is made of published files."""
        return bool(self.files)

    @property
    def likely(self) -> bool:
        """Whether it is scored by log-probabilities, so that nothing is generated."""
        return self.likelihood or self.choose is not None

    def missing(self, judge: str | None = None) -> str | None:
        """The one line that says how to get what it lacks here; None where it can be run now, without a network."""
        absent = [file for file in self.files if not file.here]
        for file in absent:
            if not file.fetchable:
                return file.missing
        if absent:
            return f"{absent[0].missing}; fetched when the suite is named"
        if self.grade is not None and judge != GRADER:
            return f"its score is a judge model's: available with evaluation.judge: {GRADER}"
        return None

    def prompts(self, setting: Setting) -> list[Prompt]:
        """Its prompts: all of them, or a part stratified by category. Equal rows of the data stay apart."""
        if self.build is not None:
            return self.build(self, setting)
        items = self.items()
        seen: Counter[tuple[str, ...]] = Counter()
        keys = []
        for item in items:
            same = (item.text, item.request or "", item.label, item.key)
            seen[same] += 1
            keys.append(item.key if seen[same] == 1 else f"{item.key}#{seen[same]}")
        units = [
            item.unit or "\0".join((item.request or item.text, item.text, item.label, key))
            for item, key in zip(items, keys, strict=True)
        ]
        chosen = sample_units(units, setting.limit, [item.category for item in items])
        return [self._prompt(items[index], keys[index], setting) for index in chosen]

    def _prompt(self, item: Item, key: str, setting: Setting) -> Prompt:
        row = self.row(item, item.image() if item.image is not None else None, key)
        if item.render is None:
            return row
        path = setting.images / self.name / f"{row.id}.png"
        typography.save_png(item.render(), path)
        return row.model_copy(update={"image": str(path)})

    def row(self, item: Item, image: Path | None = None, key: str | None = None) -> Prompt:
        """A prompt of this suite; its id and group follow from the item's content; `key` tells its prompts apart."""
        request = item.request or item.text
        parts = [part for part in (item.key if key is None else key,) if part]
        return Prompt(
            id=f"{self.name}-{content_key(request, item.text, item.label, *parts)[:12]}",
            suite=self.name,
            kind=self.kind,
            modality=self.modality,
            prompt=item.text,
            request=request,
            image=None if image is None else str(image),
            group=prompt_key(item.cluster or (f"{request} {item.label}" if item.label else request)),
            category=item.category,
            reference=item.reference,
            system=item.system,
            turns=item.turns,
            condition=item.condition or self.shown,
            image_type=item.image_type,
            choices=item.choices,
            answers=item.answers,
            context=item.context,
        )


def plain_items(rows: Iterable[SourceRow]) -> list[Item]:
    """Items of bare requests, sampled by their text alone."""
    return [Item(row.text, category=row.category, unit=row.text) for row in rows]


def order(rows: Sequence[str], strata: Sequence[str | None] | None = None) -> list[int]:
    """All indices, in the order in which growing limits take them.

    Within a stratum, rows come in the order of a hash of their text. Strata get their shares by Webster's method
    (Sainte-Laguë), which is what ordering by (rank in the stratum + ½) ÷ size of the stratum comes to.
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
    """Indices of at most `limit` texts, in row order; a smaller limit asks a part of what a larger one asks."""
    return sorted(order(rows, strata)[:limit])


def sample_units(units: Sequence[str], limit: int | None, strata: Sequence[str | None]) -> list[int]:
    """As `sample`, but rows of one unit stay together: the first unit that would pass the limit ends the choice."""
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
