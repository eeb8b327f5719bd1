"""Rows that people have labelled, in the shapes that judges take and give."""

from collections.abc import Iterable, Sequence

from unsay.judging.judge import Pair
from unsay.records import Kind, Label, LabelledResponse, Modality, Prompt, Response


def as_attack(identity: str, request: str, answer: str) -> Pair:
    """A request and its answer as a judge is given an attack."""
    prompt = Prompt(
        id=identity,
        suite="labelled",
        kind=Kind.ATTACK,
        modality=Modality.TEXT,
        prompt=request,
        request=request,
        group=identity,
    )
    response = Response(
        id=identity,
        suite="labelled",
        modality=Modality.TEXT,
        prompt=request,
        image=None,
        response=answer,
        finish_reason="stop",
        tokens=0,
        model_key="people",
    )
    return prompt, response


def as_attacks(rows: Sequence[LabelledResponse]) -> list[Pair]:
    """Labelled rows as a judge is given attacks; the ids are their numbers."""
    return [as_attack(str(number), row.prompt, row.response) for number, row in enumerate(rows)]


def harm_labels(harmful: Iterable[bool]) -> list[Label]:
    """`HARMFUL` where true, else `SAFE`."""
    return [Label.HARMFUL if value else Label.SAFE for value in harmful]


def refusal_labels(refused: Iterable[bool]) -> list[Label]:
    """`REFUSED` where true, else `SAFE`."""
    return [Label.REFUSED if value else Label.SAFE for value in refused]


def requests_of(rows: Sequence[LabelledResponse]) -> list[str]:
    """The request of each row, spaces and case aside: rows of one request share a fold, and are drawn together."""
    return [row.group or " ".join(row.prompt.lower().split()) for row in rows]
