"""Ways to ask for what a model refuses: each puts the same request to it in another dress, the cheapest first.

- `words`: the request as it is.
- `prefill`: the same with the first words of the answer put into the model's mouth (arXiv 2406.05946).
- `typographic`, `figstep`: the request as a picture, and as the heading of an empty list (arXiv 2311.05608); then the
  same with the first words of the answer.
- `templates`: inside published jailbreaks (arXiv 2307.02483, jailbreakchat), as the pinned PyRIT wheel has them.
- `samples`: in words again, several times, at temperature 1 (arXiv 2310.06987).

No text in which a request is dressed is harmful in itself, and none of it is trained on: what a model says becomes a
forget answer to the plain request.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from unsay.data.sources.wheels import REQUEST, jailbreaks
from unsay.errors import UserError
from unsay.generation.settings import OwnAnswerSettings
from unsay.records import Modality, Prompt
from unsay.suites import twins

VERSION = 2
"""Raised by hand when a way asks otherwise, or another one comes in; answers that were drawn before are drawn anew."""

BEGINNINGS = ("Sure, here is", "Of course. Here are the steps:\n\n1.")
"""First words that are put into the model's mouth. Without a blank at the end: chat templates drop it."""

Dress = Callable[[Prompt, Path], Prompt | None]
"""A prompt in words, a folder for pictures → the prompt that is asked; None where the request does not fit this way."""


@dataclass(frozen=True)
class Asking:
    """One attempt of a way.

    Attributes:
        way: its name in `WAYS`.
        detail: which of the way's several attempts it is.
        dress: how the prompt is made from the request in words.
        begun: the first words of the answer.
        samples: answers to each prompt.
        temperature: 0 is greedy.
    """

    way: str
    detail: str = ""
    dress: Dress = lambda prompt, _folder: prompt
    begun: str = ""
    samples: int = 1
    temperature: float = 0.0


def _words(_settings: OwnAnswerSettings) -> list[Asking]:
    return [Asking("words")]


def _prefill(_settings: OwnAnswerSettings) -> list[Asking]:
    return [Asking("prefill", words.splitlines()[0], begun=words) for words in BEGINNINGS]


def _pictured(_settings: OwnAnswerSettings, form: str, begun: str) -> list[Asking]:
    def dress(prompt: Prompt, folder: Path) -> Prompt | None:
        path = folder / form / f"{prompt.id}.png"
        try:
            words = twins.save_picture(prompt.request, form, path)
        except UserError:
            return None  # too long to be read off a picture, or in letters that the face lacks
        return Prompt.model_validate(
            prompt.model_dump(exclude={"condition"})
            | {"prompt": words, "image": str(path), "modality": Modality.TYPOGRAPHIC}
        )

    return [Asking(form, dress=dress), Asking(form, f"with {begun}", dress, begun=begun)]


def _templates(_settings: OwnAnswerSettings) -> list[Asking]:
    def wrapped(prompt: Prompt, _folder: Path, template: str) -> Prompt:
        return prompt.model_copy(update={"prompt": template.replace(REQUEST, prompt.request)})

    return [
        Asking("templates", name.replace("_", " "), partial(wrapped, template=template))
        for name, template in jailbreaks().items()
    ]


def _samples(settings: OwnAnswerSettings) -> list[Asking]:
    return [Asking("samples", samples=settings.samples, temperature=1.0)]


WAYS: dict[str, Callable[[OwnAnswerSettings], list[Asking]]] = {
    "words": _words,
    "prefill": _prefill,
    "typographic": partial(_pictured, form="typographic", begun=BEGINNINGS[0]),
    "figstep": partial(_pictured, form="figstep", begun="1."),
    "templates": _templates,
    "samples": _samples,
}
"""Every way by name, in the order in which they are tried by default → its attempts."""
