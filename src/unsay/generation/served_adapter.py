"""Does an adapter behind a server act?

One that is listed and loaded can still change nothing (vllm-project/vllm#48019), and every number of such a run would
be the original model's. So the adapter and the model below it are asked the same prompts before anything else. Servers
do not repeat themselves to the word, since they compute in changing batches: the model is asked twice, and the adapter
must change more answers than asking again does.
"""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from unsay.endpoint import ChatClient
from unsay.errors import UserError
from unsay.files import content_key
from unsay.generation.server import EndpointResponder, EndpointResponderSettings
from unsay.generation.settings import GenerationSettings
from unsay.records import Kind, Prompt

ASKED = 50
"""Prompts; attacks first, because they are what an unlearned model answers otherwise."""


@dataclass(frozen=True)
class Effect:
    """What a served adapter does to answers.

    Attributes:
        base_model: the model below it, by its name on the server.
        n: prompts that were asked.
        changed: answers that are not the base model's.
        unsteady: answers of the base model that were others when it was asked again.
    """

    base_model: str
    n: int
    changed: int
    unsteady: int

    def __str__(self) -> str:
        """For people, beside the scores."""
        again = f"; {self.base_model}, asked again, {self.unsteady}" if self.unsteady else ""
        return f"changes {self.changed} of {self.n} answers of {self.base_model}{again}"


def prove_adapter(
    settings: EndpointResponderSettings,
    suites: Mapping[str, Sequence[Prompt]],
    generation: GenerationSettings,
    folder: Path,
) -> Effect | None:
    """What the served adapter changes; None if the model is no adapter, as far as settings and server tell.

    Args:
        settings: the server, with the adapter as its model.
        suites: prompts to choose from.
        generation: as in the run; a sampled answer differs anyway, so that sampling is switched off.
        folder: for the answers; emptied first, so that nothing is taken from an earlier start of the server.

    Raises:
        UserError: the adapter does not act, or prompts got no answer.
    """
    base = settings.base_model or ChatClient(settings).parent()
    if base is None:
        return None
    if base == settings.model:
        raise UserError(
            f"evaluation.responder.base_model: '{base}' is the model itself: name the one below the adapter"
        )
    prompts = probes(suites)
    shutil.rmtree(folder, ignore_errors=True)
    original = settings.model_copy(update={"model": base, "base_model": None})
    greedy = generation.model_copy(update={"temperature": 0.0})
    asked = {"original": original, "adapter": settings, "again": original}
    said = {
        # Apart, because one cache would answer when the model is asked again.
        name: EndpointResponder(who).respond(prompts, greedy, folder / name / "answers.jsonl")
        for name, who in asked.items()
    }
    first = [row.response for row in said["original"]]
    changed, unsteady = (
        sum(row.response != text for row, text in zip(said[name], first, strict=True)) for name in ("adapter", "again")
    )
    if changed <= unsteady:
        than = "" if not unsteady else f" ({changed} differ, and {unsteady} when the model is asked twice)"
        raise UserError(
            f"{settings.url}: the adapter '{settings.model}' changes nothing: '{base}' gives the same answers to "
            f"{len(prompts)} prompts{than}. Serve the merged checkpoint instead: unsay export RUN --merge --out DIR"
        )
    return Effect(base, len(prompts), changed, unsteady)


def probes(suites: Mapping[str, Sequence[Prompt]]) -> list[Prompt]:
    """Up to 50 prompts of these suites: attacks before others, in the order of their hashed ids."""
    rows = {prompt.id: prompt for prompts in suites.values() for prompt in prompts}
    ordered = sorted(rows.values(), key=lambda row: (row.kind is not Kind.ATTACK, content_key(row.id)))
    return ordered[:ASKED]
