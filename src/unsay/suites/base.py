"""What a suite is, and which of its rows a limited run asks.

What a suite is: a title, a source, and a function that lists its prompts.

Which rows a limited suite asks: the same every time, in the proportions of the whole.
"""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from unsay.data.sources.published import Pictures, Published
from unsay.data.splits import prompt_key
from unsay.files import content_key
from unsay.records import Condition, Kind, Modality, Prompt, Response, Turn


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


__all__ = ["Grade", "Measure", "Setting", "Suite", "sample"]

GRADER = "endpoint"
"""The judge that can grade open answers."""


@dataclass(frozen=True)
class Setting:
    """Where and how large a suite is built.

    Attributes:
        images: folder for the images that a suite renders.
        limit: at most so many prompts, drawn deterministically; None for all.
    """

    images: Path
    limit: int | None = None


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
        ask: prompt and response → what the judge model is told.
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
        prompts: builds its prompts.
        size: how many there are without a limit; None where that depends on the files at hand.
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
        by_category: whether a utility suite's number is also given for each category.
        files: the published files that it is made of; none for suites that need no benchmark data.
        version: raised by hand when its prompts change for the same data; cached answers and finished studies go by it.
    """

    name: str
    title: str
    kind: Kind
    modality: Modality
    source: str
    licence: str
    prompts: Callable[[Setting], list[Prompt]]
    size: int | None = None
    twin: str | None = None
    measure: Measure | None = None
    likelihood: bool = False
    choose: Callable[[Prompt, Sequence[float]], float] | None = None
    condition: Condition | None = None
    bare: bool = True
    grade: Grade | None = None
    harm_in_picture: bool = False
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
        """The one line that says how to get what it lacks here; None where it can be run now, without a network.

        Args:
            judge: the judge that is configured, if it matters.
        """
        absent = [file for file in self.files if not file.here]
        for file in absent:
            if not file.fetchable:
                return file.missing
        if absent:
            return f"{absent[0].missing}; fetched when the suite is named"
        if self.grade is not None and judge != GRADER:
            return f"its score is a judge model's: available with evaluation.judge: {GRADER}"
        return None

    def row(
        self,
        text: str,
        *,
        request: str | None = None,
        image: Path | None = None,
        category: str | None = None,
        reference: str | None = None,
        label: str = "",
        key: str = "",
        system: str | None = None,
        turns: Sequence[Turn] = (),
        image_type: str | None = None,
        choices: Sequence[str] = (),
        answers: Sequence[str] = (),
        context: str | None = None,
    ) -> Prompt:
        """A prompt of this suite; its id and group follow from its content.

        Args:
            text: what the model is given in words.
            request: what is asked, if that is not the text itself.
            image: what the model is given to see.
            category: of harm, or of the question.
            reference: the right answer.
            label: what tells requests with equal words apart.
            key: what tells prompts of one request apart.
            system: a system prompt of its own.
            turns: the conversation before it.
            image_type: what kind of picture it is.
            choices: the possible answers.
            answers: all right answers.
            context: what the request speaks of, where that is a text of its own.
        """
        asked = request or text
        more = [key] if key else []
        return Prompt(
            id=f"{self.name}-{content_key(asked, text, label, *more)[:12]}",
            suite=self.name,
            kind=self.kind,
            modality=self.modality,
            prompt=text,
            request=asked,
            image=None if image is None else str(image),
            group=prompt_key(f"{asked} {label}" if label else asked),
            category=category,
            reference=reference,
            system=system,
            turns=tuple(turns),
            condition=self.shown,
            image_type=image_type,
            choices=tuple(choices),
            answers=tuple(answers),
            context=context,
        )
