"""Overlap of training examples with the suites: a run never trains on what it asks."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, TypeAlias

from unsay.data.pictures import pixel_key, read_image
from unsay.data.splits import OverlapIndex, request_of
from unsay.errors import UserError
from unsay.files import read_rows, write_rows
from unsay.records import Example, Kind, Prompt, Record, Role, SourceRow
from unsay.scoring import Caution
from unsay.suites import find_suite

Shared: TypeAlias = Literal["request", "words in pictures", "picture"]


class Overlap(Record):
    """One training example that a suite also asks; a row of `train/overlaps.jsonl`, which holds no text."""

    id: str
    role: Role
    suite: str
    by: Shared  # what the two have in common: the request, a text that a picture shows, or the picture itself


def check_disjoint(examples: Sequence[Example], suites: Mapping[str, Sequence[Prompt]], listing: Path) -> None:
    """Assert that no suite asks what is trained on (see `find_overlaps`); ids of overlaps go to the file `listing`.

    The `UserError` says how many examples overlap with which suites; no text is repeated.
    """
    overlaps = find_overlaps(examples, suites)
    if not overlaps:
        listing.unlink(missing_ok=True)
        return
    write_rows(listing, overlaps)
    raise UserError(
        f"{len({row.id for row in overlaps}):,} of {len(examples):,} training examples overlap with questions that "
        f"will be asked ({overlap_summary(overlaps)}); their ids are in {listing}: "
        f"{_remedy({row.suite for row in overlaps})}"
    )


def _remedy(suites: set[str]) -> str:
    """What to do about overlaps with these suites; `unsay examples` knows only the packaged ones."""
    if any(find_suite(suite) is None for suite in suites):
        return (
            "remove the rows with these ids from data.examples, or what they repeat from the questions (--suite-file, "
            "evaluation.suites)"
        )
    names = ",".join(sorted(suites))
    return (
        f"remove these rows (`unsay examples --drop-overlaps --suites {names}` does), or leave the suites out "
        "(evaluation.suites)"
    )


def overlap_summary(overlaps: Iterable[Overlap]) -> str:
    """How many examples overlap with each suite, largest first: `advbench 190, benign 22`."""
    return ", ".join(f"{suite} {count:,}" for suite, count in Counter(row.suite for row in overlaps).most_common())


def find_overlaps(examples: Sequence[Example], suites: Mapping[str, Sequence[Prompt]]) -> list[Overlap]:
    """Every example whose request equals or nearly equals one of a suite, or whose picture is one; once per suite.

    Utility suites that ask one question of many pictures are not compared by request. Instead the words in their
    pictures are searched for in training pictures.
    """
    pictured = [example for example in examples if example.image is not None]
    keys = [pixel_key(read_image(str(example.image))) for example in pictured]
    overlaps: dict[tuple[str, str], Overlap] = {}

    def add(rows: Iterable[Example], suite: str, by: Shared) -> None:
        for row in rows:
            overlaps.setdefault((suite, row.id), Overlap(id=row.id, role=row.role, suite=suite, by=by))

    for suite, prompts in suites.items():
        if _tells_requests(suite, prompts):
            add(_near(examples, (prompt.request for prompt in prompts)), suite, "request")
        if pictured:
            add(_near(pictured, (row.text for row in words_in_pictures(prompts))), suite, "words in pictures")
            shown = {pixel_key(read_image(prompt.image)) for prompt in prompts if prompt.image is not None}
            add((row for row, key in zip(pictured, keys, strict=True) if key in shown), suite, "picture")
    return list(overlaps.values())


def words_in_pictures(prompts: Iterable[Prompt]) -> list[SourceRow]:
    """The texts that pictures of utility suites show: correct answers of several words."""
    return [
        SourceRow(text=prompt.reference, source=prompt.suite)
        for prompt in prompts
        if prompt.image is not None and prompt.reference is not None and " " in prompt.reference.strip()
    ]


def contamination_cautions(adapter: Path, suites: Mapping[str, Sequence[Prompt]]) -> list[Caution]:
    """A severe caution for each suite that asks, or nearly asks, what an adapter's own run trained on.

    A run keeps its training examples disjoint from its own suites, but not from suites that are asked later. They are
    known while the adapter's folder lies in its run directory.
    """
    try:
        examples = read_rows(adapter.parent / "train" / "examples.jsonl", Example)
    except UserError:
        return []
    index = OverlapIndex(request_of(row) for row in examples)
    cautions = []
    for name, prompts in suites.items():
        count = sum(index.overlaps(request_of(row)) for row in prompts) if _tells_requests(name, prompts) else 0
        if count:
            title = name if (suite := find_suite(name)) is None else suite.title
            text = (  # the words of earlier versions, whose scores are compared: each is said once
                f"{title}: {count} of {len(prompts)} prompts, or nearly these, were among the adapter's training data, "
                "and say little of new ones; a run that trains with the suite among its own (evaluation.suites) keeps "
                "clear of it."
            )
            cautions.append(Caution(text=text, severe=True))
    return cautions


def _tells_requests(name: str, prompts: Sequence[Prompt]) -> bool:
    """Whether the requests of a suite differ; most utility suites ask one question of many pictures."""
    suite = find_suite(name)
    return bool(prompts) and (prompts[0].kind is not Kind.UTILITY or (suite is not None and suite.likely))


def _near(examples: Sequence[Example], texts: Iterable[str]) -> list[Example]:
    """The examples whose request equals or nearly equals one of the texts."""
    index = OverlapIndex(texts)
    return [example for example in examples if index.overlaps(request_of(example))]
